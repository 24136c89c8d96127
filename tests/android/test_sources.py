"""scripts/android/sources.py: an APK with LiteRT and ExecuTorch out of a further Maven repository or of files, built in another work folder.

Their AARs are not to be had everywhere, so the test makes some of the same names and layout: TensorFlow Lite's own classes and libraries, and
the stubs that the app is compiled against. ExecuTorch's neighbours (fbjni, nativeloader) are the real ones.
"""

import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from building import REPOSITORY, build

sys.path.insert(0, str(REPOSITORY / "scripts"))

from android import jars
from android.apk import ABIS, APK, native_libraries
from android.failure import BuildError
from android.pages import load_alignment, made_for_smaller, misplaced
from android.places import WORK
from android.sources import SOURCES, Sources

from firsttoken.device.carried import read_carried

POM = """<project><modelVersion>4.0.0</modelVersion><groupId>{0}</groupId><artifactId>{1}</artifactId><version>{2}</version>
<packaging>aar</packaging></project>"""
SHARED = ("android", "compiler", "core", "dexer")  # what the other work folder need not fetch again


def aar(classes: list[Path | bytes], libraries: dict[str, bytes]) -> bytes:
    """An AAR of the classes in folders and jars, and of native libraries by ABI and name."""
    jar, whole = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(jar, "w") as archive:
        for place in classes:
            if isinstance(place, bytes):
                with zipfile.ZipFile(io.BytesIO(place)) as other:
                    for name in other.namelist():
                        if name.endswith(".class") and name not in archive.namelist():
                            archive.writestr(name, other.read(name))
            else:
                for file in sorted(place.rglob("*.class")):
                    archive.write(file, file.relative_to(place).as_posix())
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("classes.jar", jar.getvalue())
        for name, library in libraries.items():
            archive.writestr(f"jni/{name}", library)
    return whole.getvalue()


@pytest.fixture(scope="module")
def published(apk_said, tmp_path_factory) -> Path:
    """A Maven repository of files with LiteRT and ExecuTorch."""
    classes = {}
    for bundle in jars.aars("tensorflow-lite"):
        with zipfile.ZipFile(bundle) as archive:
            classes[bundle.name.rsplit("-", 1)[0]] = archive.read("classes.jar")
    libraries = native_libraries(jars.aars("tensorflow-lite"))
    stubs = WORK / "classes"
    made = {
        "litert": aar([classes["tensorflow-lite"]], libraries),
        "litert-api": aar([classes["tensorflow-lite-api"], stubs / "litert-stubs"], {}),
    }
    if (stubs / "executorch-stubs").is_dir():  # else ExecuTorch itself is to be had here
        library = "libtensorflowlite_jni.so"
        made["executorch-android"] = aar(
            [stubs / "executorch-stubs"], {f"{abi}/libexecutorch.so": libraries[f"{abi}/{library}"] for abi in ABIS}
        )
    repository = tmp_path_factory.mktemp("published")
    for group, artifact, version in [*jars.libraries("litert"), *jars.libraries("executorch")]:
        if artifact in made:
            folder = repository.joinpath(*group.split("."), artifact, version)
            folder.mkdir(parents=True)
            (folder / f"{artifact}-{version}.aar").write_bytes(made[artifact])
            (folder / f"{artifact}-{version}.pom").write_text(POM.format(group, artifact, version))
    return repository


@pytest.fixture(scope="module")
def elsewhere(published, tmp_path_factory) -> tuple[Path, str, dict[str, str]]:
    """Another work folder and Maven cache, with the APK built there, and what was said."""
    if jars.is_available("litert"):
        pytest.skip("LiteRT itself is to be had here, and test_apk.py has tested an APK with it")
    place = tmp_path_factory.mktemp("elsewhere")
    (place / "work" / "jars").mkdir(parents=True)
    for name in SHARED:
        (place / "work" / "jars" / name).symlink_to(WORK / "jars" / name)
    environment = {"FIRSTTOKEN_ANDROID_WORK": str(place / "work"), "MAVEN_OPTS": f"-Dmaven.repo.local={place / 'm2'}"}
    said = build("--repository", published.as_uri(), "-o", place / "app.apk", **environment)
    return place / "app.apk", said, environment


def certificate(apk: Path) -> str:
    said = subprocess.run(
        ["apksigner", "verify", "--print-certs", "--min-sdk-version", "26", apk], capture_output=True, text=True, check=True
    )
    return re.search(r"certificate SHA-256 digest: (\w{64})", said.stdout)[1]


@pytest.mark.slow
def test_it_carries_what_the_repository_has_and_says_so(elsewhere):
    apk, said, _ = elsewhere
    versions = jars.catalog()["versions"]
    assert f"APK carries LiteRT {versions['litert']}; ExecuTorch {versions['executorch']};" in said
    assert "cannot be fetched" not in said
    assert read_carried(apk, "apk").versions == {"LiteRT": versions["litert"], "ExecuTorch": versions["executorch"]}


@pytest.mark.slow
def test_its_native_libraries_are_those_of_the_aars(elsewhere, published):
    apk, said, _ = elsewhere
    assert misplaced(apk) == []
    with zipfile.ZipFile(apk) as archive:
        inside = {name.removeprefix("lib/"): archive.read(name) for name in archive.namelist() if name.startswith("lib/")}
    ours = native_libraries(sorted(published.rglob("*.aar")))
    assert ours.items() <= inside.items()
    others = {name.split("/")[1] for name in inside.keys() - ours.keys()}
    assert {"libfbjni.so", "libc++_shared.so"} <= others
    small = {name for name, library in inside.items() if load_alignment(library) % 16384}
    assert {f"lib/{name}" for name in small} == set(made_for_smaller(apk)) and all(f"{name} (" in said for name in small)


@pytest.mark.slow
def test_it_installs_over_an_app_of_another_work_folder(elsewhere):
    apk, _, _ = elsewhere
    assert certificate(apk) == certificate(APK)


@pytest.mark.slow
def test_files_at_hand_are_taken_before_any_repository(published, elsewhere, tmp_path):
    _, _, environment = elsewhere
    at_hand = tmp_path / "files"
    at_hand.mkdir()
    for path in [*published.rglob("*.aar"), *(Path(environment["FIRSTTOKEN_ANDROID_WORK"]) / "jars" / "executorch").glob("*-0.*")]:
        (at_hand / path.name).write_bytes(path.read_bytes())
    script = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(REPOSITORY / "scripts")!r})
from android import jars, sources
sources.read([], [Path({str(at_hand)!r})], jars.runtime_files())
print(jars.is_available("litert"), jars.is_available("executorch"), *sorted(path.name for path in jars.aars("executorch")))
"""
    work = {"FIRSTTOKEN_ANDROID_WORK": str(tmp_path / "work"), "PATH": "/nowhere"}  # no Maven: nothing may be asked of it
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=work, timeout=60)
    assert done.stdout == "True True executorch-android-1.5.1.aar fbjni-0.7.0.aar\n", done.stdout + done.stderr


def test_what_maven_lacks_is_named_with_where_it_is_and_what_works():
    said = (
        "[ERROR] Failed to execute goal …:copy-dependencies (default-cli) on project dexer: Could not resolve dependencies for project "
        "dev.firsttoken:dexer:pom:1: Could not find artifact com.android.tools:r8:jar:9.5.28 in central (address) -> [Help 1]"
    )
    line = jars._reason("dexer", said)
    assert line.startswith("Maven cannot fetch com.android.tools:r8:9.5.28: ")
    assert "Google's Maven repository, which Maven does not ask by itself, has r8 9.5.28" in line and "--repository" in line
    assert line.endswith("`scripts/build_apk --test core` works, and the Gradle build, which knows that repository as google()")
    assert "check the network, or the versions" in jars._reason(
        "core", "[ERROR] Could not transfer artifact com.google.code.gson:gson:jar:2.13.2 from"
    )


def test_repositories_stand_in_what_maven_reads():
    pom = Sources(("https://one.example/parts?a&b", "file:///two")).pom()
    assert "<id>further-1</id><url>https://one.example/parts?a&amp;b</url>" in pom and "<id>further-2</id><url>file:///two</url>" in pom
    assert Sources().pom() == "" and SOURCES.repositories == ()


def test_two_libraries_of_one_name_are_refused_unless_they_are_the_same(tmp_path):
    for name, library in (("one", b"1"), ("same", b"1"), ("two", b"2"), ("half", b"1")):
        abis = ABIS[:1] if name == "half" else ABIS
        (tmp_path / f"{name}.aar").write_bytes(aar([], {f"{abi}/libc++_shared.so": library for abi in abis}))
    assert set(native_libraries([tmp_path / "one.aar", tmp_path / "same.aar"])) == {f"{abi}/libc++_shared.so" for abi in ABIS}
    with pytest.raises(BuildError, match="two.aar and one.aar: both hold arm64-v8a/libc"):
        native_libraries([tmp_path / "one.aar", tmp_path / "two.aar"])
    with pytest.raises(BuildError, match="half.aar: has native libraries, but none for x86_64"):
        native_libraries([tmp_path / "half.aar"])
