"""Jars and AARs from Maven: each bundle of libs.versions.toml is one classpath, kept in .work/android/jars with a stamp."""

import hashlib
import json
import os
import shutil
import subprocess
import time
import tomllib
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

from android.failure import BuildError
from android.places import CATALOG, WORK, program

POM = """<project><modelVersion>4.0.0</modelVersion><groupId>dev.firsttoken</groupId><artifactId>{name}</artifactId><version>1</version>\
<packaging>pom</packaging><dependencies>{dependencies}</dependencies></project>
"""
# Bundles of AARs: each is fetched alone, since the POM of tensorflow-lite names a jar that does not exist.
AARS = {"executorch", "litert", "tensorflow-lite"}
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
    wanted = json.dumps(libraries(bundle))
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
    digest = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()
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


def _dependency(bundle: str, group: str, artifact: str, version: str) -> str:
    coordinates = f"<groupId>{escape(group)}</groupId><artifactId>{escape(artifact)}</artifactId><version>{escape(version)}</version>"
    if bundle in AARS:
        coordinates += "<type>aar</type><exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"
    return f"<dependency>{coordinates}</dependency>"


def _resolve(bundle: str, wanted: list[tuple[str, str, str]], folder: Path):
    dependencies = "".join(_dependency(bundle, *library) for library in wanted)
    pom = folder / "pom.xml"
    pom.write_text(POM.format(name=bundle, dependencies=dependencies), encoding="utf-8")
    maven = program("mvn")
    print(f"Fetching {', '.join(f'{artifact} {version}' for _, artifact, version in wanted)} …", flush=True)
    command = [maven, "-B", "-q", "-ntp", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = next((line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line), f"status {done.returncode}")
        raise BuildError(
            f"Maven cannot fetch {bundle}: {reason.removeprefix('[ERROR] ')[:400]}; check the network, or the versions in {CATALOG.name}"
        )
