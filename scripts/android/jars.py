"""Jars and AARs from Maven: each bundle of libs.versions.toml is one classpath, kept in .work/android/jars with a stamp."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
import tomllib
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

from android.failure import BuildError
from android.places import CATALOG, WORK, program
from android.sources import SOURCES, advice

POM = """<project><modelVersion>4.0.0</modelVersion><groupId>dev.firsttoken</groupId><artifactId>{name}</artifactId><version>1</version>\
<packaging>pom</packaging>{repositories}<dependencies>{dependencies}</dependencies></project>
"""
# What is carried on the phone. Each part is named in the catalog and fetched alone: the POMs of AARs name their neighbours as jars that do not exist.
RUNTIMES = ("litert", "executorch", "tensorflow-lite")
AARS = {"executorch-android", "fbjni", "litert", "litert-api", "tensorflow-lite", "tensorflow-lite-api"}
NOT_FOUND = re.compile(r"(?:Could not find artifact|Could not transfer artifact|Failure to find) ([\w.-]+):([\w.-]+):\w+:([\w.-]+)")
WITHOUT = {
    "dexer": "no APK can be made without it; `scripts/build_apk --test core` works, and the Gradle build, which knows that repository as google()",
    "app-test": "the app's tests need it; `scripts/build_apk --test core` works",
    "gradle": "the Gradle build cannot be checked without it; everything else works",
}
ABSENT = "absent"  # a file that says a bundle could not be fetched, so that not every build asks again
REMEMBERED = 86400  # seconds


def catalog() -> dict:
    return tomllib.loads(CATALOG.read_text(encoding="utf-8"))


def libraries(bundle: str) -> list[tuple[str, str, str]]:
    """Returns group, artifact and version of a bundle's libraries. Raises `BuildError` for a name the catalog lacks."""
    read = catalog()
    found = []
    try:
        for name in read["bundles"][bundle]:
            library = read["libraries"][name]
            version = library["version"]
            version = read["versions"][version["ref"]] if isinstance(version, dict) else version
            found.append((*library["module"].split(":"), version))
    except KeyError as missing:
        raise BuildError(f"{CATALOG.name}: bundle {bundle!r} needs {missing}, which is not there") from None
    return found


def jars(*bundles: str) -> list[Path]:
    """Returns the jars of ``bundles``, fetched where they are not there yet; of an AAR its classes. Raises `BuildError`."""
    return [jar for bundle in bundles for jar in sorted(_fetched(bundle).glob("*.jar"))]


def aars(bundle: str) -> list[Path]:
    """Returns the AARs of ``bundle``. Raises `BuildError`."""
    return sorted(_fetched(bundle).glob("*.aar"))


def is_available(bundle: str) -> bool:
    """Whether ``bundle`` can be fetched; that it cannot is remembered for a day."""
    mark = WORK / "jars" / f"{bundle}.{ABSENT}"
    wanted = json.dumps([libraries(bundle), SOURCES.stamp(libraries(bundle))])
    if mark.is_file() and mark.read_text() == wanted and time.time() - mark.stat().st_mtime < REMEMBERED:
        return False
    try:
        _fetched(bundle)
    except BuildError:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(wanted)
        return False
    return True


def _fetched(bundle: str) -> Path:
    folder = WORK / "jars" / bundle
    wanted = libraries(bundle)
    digest = hashlib.sha256(json.dumps([wanted, SOURCES.stamp(wanted)[0]]).encode()).hexdigest()
    stamp = folder / "stamp"
    if stamp.is_file() and stamp.read_text() == digest and any(folder.glob("*.jar")):
        return folder
    temporary = folder.with_name(f".{bundle}.{os.getpid()}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _resolve(bundle, wanted, temporary)
        for aar in temporary.glob("*.aar"):
            _take_classes(aar)
        (temporary / "stamp").write_text(digest)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _take_classes(aar: Path):
    """Puts the classes of an AAR beside it, as a jar."""
    with zipfile.ZipFile(aar) as archive:
        if "classes.jar" in archive.namelist():
            aar.with_suffix(".jar").write_bytes(archive.read("classes.jar"))


def runtime_files() -> set[str]:
    """Returns the file names of the libraries that are carried on the phone, as Maven names them."""
    found = [(artifact, version) for bundle in RUNTIMES for _, artifact, version in libraries(bundle)]
    return {f"{artifact}-{version}.{'aar' if artifact in AARS else 'jar'}" for artifact, version in found}


def _dependency(bundle: str, group: str, artifact: str, version: str) -> str:
    coordinates = f"<groupId>{escape(group)}</groupId><artifactId>{escape(artifact)}</artifactId><version>{escape(version)}</version>"
    if artifact in AARS:
        coordinates += "<type>aar</type>"
    if bundle in RUNTIMES:
        coordinates += "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"
    return f"<dependency>{coordinates}</dependency>"


def _resolve(bundle: str, wanted: list[tuple[str, str, str]], folder: Path):
    """Puts the libraries into ``folder``: what was given as a file from there, the rest from Maven."""
    asked = []
    for library in wanted:
        given = SOURCES.file(*library[1:])
        if given:
            shutil.copyfile(given, folder / given.name)
        else:
            asked.append(library)
    if not asked:
        return
    dependencies = "".join(_dependency(bundle, *library) for library in asked)
    pom = folder / "pom.xml"
    pom.write_text(POM.format(name=bundle, repositories=SOURCES.pom(), dependencies=dependencies), encoding="utf-8")
    maven = program("mvn")
    print(f"Fetching {', '.join(f'{artifact} {version}' for _, artifact, version in asked)} …", flush=True)
    command = [maven, "-B", "-q", "-ntp", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(_reason(bundle, done.stdout + done.stderr))


def _reason(bundle: str, said: str) -> str:
    """One line: which part cannot be had, why, what to do, and what works without it."""
    parts = list(dict.fromkeys(NOT_FOUND.findall(said)))
    line = next((line for line in said.splitlines() if "ERROR" in line), "no reason given").removeprefix("[ERROR] ")
    what = " and ".join(":".join(part) for part in parts) or bundle
    todo = [advice(parts) or f"check the network, or the versions in {CATALOG.name}", *([WITHOUT[bundle]] if bundle in WITHOUT else [])]
    return f"Maven cannot fetch {what}: {line[:400]}; {'; '.join(todo)}"
