"""The app's resources and manifest, compiled and linked with aapt2."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from android.failure import BuildError
from android.jars import catalog, jars
from android.java import javac, tool
from android.places import APP, REPOSITORY, WORK, program
from android.runtimes import Runtimes

PROMPTS = REPOSITORY / "python" / "firsttoken" / "demo" / "held_out.txt"  # what prompts of exact lengths are cut from
PACKAGE = "dev.firsttoken.demo"
RESOURCE_FILE = """<?xml version="1.0" encoding="utf-8"?>
<resources>
{strings}
</resources>
"""


@dataclass
class Resources:
    package: Path  # an APK of the manifest, the resource table, resources and assets
    classes: Path  # R
    manifest: Path


def linked(found: Runtimes) -> Resources:
    """Links resources, assets and manifest, and compiles R. Raises `BuildError` with aapt2's messages."""
    folder = WORK / "resources"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "generated" / "values").mkdir(parents=True)
    (folder / "assets").mkdir()
    shutil.copyfile(PROMPTS, folder / "assets" / PROMPTS.name)
    _write_versions(folder / "generated" / "values" / "runtimes.xml", found)
    aapt2, versions = program("aapt2"), catalog()["versions"]
    compiled = []
    for name, source in (("main", APP / "src" / "main" / "res"), ("generated", folder / "generated")):
        compiled.append(folder / f"{name}.zip")
        tool([aapt2, "compile", "--dir", source, "-o", compiled[-1]], "aapt2 compile")
    manifest = folder / "AndroidManifest.xml"
    _write_manifest(manifest, versions)
    sdk = ["--min-sdk-version", versions["android-minSdk"], "--target-sdk-version", versions["android-targetSdk"]]
    [android] = jars("android")
    package, generated = folder / "resources.apk", folder / "java"
    command = [
        aapt2,
        "link",
        "-o",
        package,
        "-I",
        android,
        "--manifest",
        manifest,
        "--java",
        generated,
        "-A",
        folder / "assets",
        *sdk,
        *compiled,
    ]
    _link(command)
    javac(generated.rglob("*.java"), folder / "classes")
    return Resources(package, folder / "classes", manifest)


def _link(command: list):
    """Debian's aapt2 is older than ``<property>`` in a service: its errors about the manifest are made warnings, and all others raised again."""
    done = subprocess.run([*map(str, command), "--warn-manifest-validation"], capture_output=True, text=True)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    wrong = [line for line in lines if "AndroidManifest.xml" in line and "unexpected element <property>" not in line]
    if done.returncode or wrong:
        raise BuildError("aapt2 link failed:\n" + "\n".join((wrong or lines)[:40]))


def _write_manifest(file: Path, versions: dict[str, str]):
    """Adds the package, the version and how native libraries are packed, which Gradle takes from its build file."""
    source = (APP / "src" / "main" / "AndroidManifest.xml").read_text(encoding="utf-8")
    values = f'package="{PACKAGE}" android:versionCode="{versions["app-versionCode"]}" android:versionName="{versions["app-versionName"]}"'
    source = source.replace("<manifest ", f"<manifest {values} ", 1).replace(
        "<application", '<application android:extractNativeLibs="false"', 1
    )
    file.write_text(source, encoding="utf-8")


def _write_versions(file: Path, found: Runtimes):
    values = {"litert_version": found.litert, "tflite_version": found.tensorflow_lite, "executorch_version": found.executorch}
    lines = (f'    <string name="{name}" translatable="false">{escape(value)}</string>' for name, value in values.items())
    file.write_text(RESOURCE_FILE.format(strings="\n".join(lines)), encoding="utf-8")
