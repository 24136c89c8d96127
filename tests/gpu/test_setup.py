"""Setting up the software GPU: whole and working or not at all, nothing the second time."""

import shutil
import subprocess

import pytest

from firsttoken.arm import debian
from firsttoken.backends.gpu.device import FOLDER_VARIABLE, LIBRARIES, device_environment, device_folder, device_version, is_set_up
from firsttoken.doctor import examine
from firsttoken.errors import FirstTokenError
from firsttoken.gpu import setup


@pytest.fixture
def place(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "gpu"))
    return tmp_path / "gpu"


@pytest.fixture
def package(software_gpu, monkeypatch, tmp_path):
    """Returns a function that makes a Debian package of the real device's libraries, some of them changed, what a mirror then gives."""

    def make(**contents: bytes | None):
        tree = tmp_path / "tree"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN" / "control").write_text(
            "Package: chromium-common\nVersion: 1.2~test\nArchitecture: amd64\nMaintainer: t <t@t>\nDescription: t\n"
        )
        folder = tree / "usr" / "lib" / "chromium"
        folder.mkdir(parents=True)
        (folder / "chromium").write_text("something else")
        for name in LIBRARIES:
            content = contents.get(name.partition(".")[0], b"")
            if content is not None:
                (folder / name).write_bytes(content or (software_gpu / name).read_bytes())
        path = tmp_path / "chromium-common_1.2~test_amd64.deb"
        subprocess.run(["dpkg-deb", "-Znone", "-b", str(tree), str(path)], check=True, capture_output=True)
        fetched = []

        def fetch(downloads, mirror):
            fetched.append(mirror)
            return path

        monkeypatch.setattr(setup, "fetch", fetch)
        return fetched

    return make


def test_a_device_that_works_then_nothing(place, package):
    fetched, said = package(), []
    assert not is_set_up()
    setup.set_up(say=said.append)
    assert is_set_up() and device_version() == "chromium-common 1.2~test" and said[-1].endswith(f"delete {place} to undo it")
    assert sorted(path.name for path in place.iterdir()) == [".lock", "swiftshader"]
    assert sorted(path.name for path in device_folder().iterdir()) == sorted([".complete", "vk_swiftshader_icd.json", *LIBRARIES])
    again = []
    setup.set_up(say=again.append)
    assert again == [] and fetched == [None]
    assert ("ok", "software GPU") in [(check.state, check.name) for check in examine()]


def test_a_package_without_the_device_is_told(place, package):
    package(libvk_swiftshader=None)
    with pytest.raises(
        FirstTokenError, match=r"chromium-common_1.2~test_amd64.deb: holds no libvk_swiftshader.so; expected a package of Chromium"
    ):
        setup.set_up(say=lambda line: None)
    assert not is_set_up() and [path.name for path in place.iterdir()] == [".lock"]


def test_a_device_that_does_not_work_is_not_put_in_its_place(place, package):
    package(libvk_swiftshader=b"no library")
    with pytest.raises(FirstTokenError, match="software GPU"):
        setup.set_up(say=lambda line: None)
    assert not is_set_up() and [path.name for path in place.iterdir()] == [".lock"]


def test_what_is_lacking_is_told_before_any_work(place, monkeypatch, capsys):
    monkeypatch.setattr(debian, "obstacles", lambda: ["dpkg is not installed"])
    assert setup.main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the software GPU cannot be set up here: dpkg is not installed") and said.count("\n") == 1
    assert not place.exists()


def test_without_it_doctor_and_those_who_need_it_name_the_command(place):
    [line] = [check for check in examine() if check.name == "software GPU"]
    assert line.state == "note" and ("setup_gpu" in line.advice or "needs" in line.advice)
    with pytest.raises(FirstTokenError, match=r"the software GPU is not set up .* run: .*setup_gpu"):
        device_environment()


def test_only_a_process_that_is_given_it_sees_the_device(software_gpu, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/somewhere")
    seen = device_environment()
    assert seen["VK_ICD_FILENAMES"] == seen["VK_DRIVER_FILES"] == str(software_gpu / "vk_swiftshader_icd.json")
    assert seen["LD_LIBRARY_PATH"] == f"{software_gpu}:/somewhere" and seen["XDG_RUNTIME_DIR"]


@pytest.mark.slow
def test_from_the_archive(place):
    """What users get, where apt has an archive and a way to it."""
    try:
        setup.set_up(say=lambda line: None)
    except FirstTokenError as error:
        if "apt" not in str(error) and "cannot be set up here" not in str(error):
            raise
        pytest.skip(str(error))
    assert is_set_up() and device_version().startswith("chromium-common ")
    shutil.rmtree(place)
