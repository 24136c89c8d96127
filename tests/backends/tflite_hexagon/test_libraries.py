"""Finding Qualcomm's host libraries: the user's SDK first, then the package; the version has to be the compiler's."""

import pytest

from firsttoken import doctor
from firsttoken.backends.tflite_hexagon import libraries
from firsttoken.backends.tflite_hexagon.libraries import NEEDED, SDK_FOLDER, find_libraries
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export


@pytest.fixture(autouse=True)
def no_sdk(monkeypatch):
    for name in libraries.SDK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(libraries, "check_platform", lambda: None)


@pytest.fixture
def no_package(monkeypatch):
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)


def make_sdk(folder, version: str, missing: str = ""):
    """A folder like an unpacked SDK's, whose libraries only say their version."""
    (folder / SDK_FOLDER).mkdir(parents=True)
    for name in (*NEEDED, "libQnnHtpPrepare.so"):
        if name != missing:
            (folder / SDK_FOLDER / name).write_bytes(b"\x7fELF\0\0v" + version.encode() + b".250901120000\0")
    return folder


def test_none_installed_says_what_to_run(no_package, tmp_path):
    with pytest.raises(FirstTokenError, match=r"pip install 'firsttoken\[hexagon\]'.*QNN_SDK_ROOT to a QAIRT 2.50 SDK"):
        find_libraries()
    with pytest.raises(FirstTokenError, match=r"not installed; run: pip install 'firsttoken\[hexagon\]'"):
        export(checkpoint_path(), tmp_path / "out", targets=("tflite-hexagon-sm8550",))
    assert not (tmp_path / "out").exists(), "nothing is made before the libraries are there"


@pytest.mark.parametrize("variable", libraries.SDK_VARIABLES)
def test_an_sdk_is_preferred(variable, monkeypatch, tmp_path):
    monkeypatch.setenv(variable, str(make_sdk(tmp_path / "sdk", "2.50.1")))
    found = find_libraries()
    assert found.version == "2.50.1" and found.origin.startswith(variable)
    assert found.htp_backend == tmp_path / "sdk" / SDK_FOLDER / "libQnnHtp.so"


@pytest.mark.parametrize("version", ["2.37.0", "2.47.1", "2.51.0", "2.5.0"])
def test_another_version_is_refused(version, monkeypatch, tmp_path):
    monkeypatch.setenv("QNN_SDK_ROOT", str(make_sdk(tmp_path / "sdk", version)))
    with pytest.raises(
        FirstTokenError, match=rf"has QNN {version}, but .* was built for 2.50; unset .* pip install 'onnxruntime-qnn==2.6.0'"
    ):
        find_libraries()
    [line] = [check for check in doctor.examine() if check.name == "Hexagon"]
    assert line.state == "note" and version in line.advice


def test_what_is_not_an_sdk(monkeypatch, tmp_path):
    monkeypatch.setenv("QNN_SDK_ROOT", str(tmp_path))
    with pytest.raises(FirstTokenError, match="has no lib/x86_64-linux-clang"):
        find_libraries()
    monkeypatch.setenv("QNN_SDK_ROOT", str(make_sdk(tmp_path / "sdk", "2.50.1", missing="libQnnIr.so")))
    with pytest.raises(FirstTokenError, match="libQnnIr.so missing"):
        find_libraries()
    (tmp_path / "sdk" / SDK_FOLDER / "libQnnIr.so").touch()
    (tmp_path / "sdk" / SDK_FOLDER / libraries.STAND_IN).write_bytes(b"no version")
    with pytest.raises(FirstTokenError, match="does not say which QNN"):
        find_libraries()


def test_another_machine(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(libraries.platform, "machine", lambda: "aarch64")
    with pytest.raises(FirstTokenError, match="needs Linux on x86_64, this is .* on aarch64"):
        find_libraries()


def test_links_stand_in_for_what_is_not_in_the_package(monkeypatch, tmp_path):
    monkeypatch.setenv("QNN_SDK_ROOT", str(make_sdk(tmp_path / "sdk", "2.50.1")))
    with find_libraries().linked() as folder:
        assert {path.name for path in folder.iterdir()} >= {*NEEDED, libraries.STANDS_IN_FOR}
    assert not folder.exists()


def test_the_package_fits(hexagon_libraries):
    assert hexagon_libraries.fits and hexagon_libraries.version.startswith("2.50.")
    [line] = [check for check in doctor.examine() if check.name == "Hexagon"]
    assert line.state == "ok" and hexagon_libraries.version in line.found
