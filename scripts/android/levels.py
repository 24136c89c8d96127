"""Whether the classes use only what the oldest Android has: Kotlin compiles against Android 14 and says nothing."""

import shutil
import subprocess
from xml.sax.saxutils import escape

from android import app
from android.failure import BuildError
from android.jars import libraries
from android.places import WORK, program

PLUGIN = "org.codehaus.mojo:animal-sniffer-maven-plugin:1.24"
# Classes that are looked for before they are used, or that come with the APK.
IGNORED = (
    "org.tensorflow.*",
    "org.pytorch.*",
    "com.google.ai.edge.litert.*",
    "com.qualcomm.qti.*",
    "com.google.gson.*",
    "kotlin.*",
    "dev.firsttoken.*",
)
GUARDED = "dev.firsttoken.demo.SinceAndroid"
POM = """<project><modelVersion>4.0.0</modelVersion><groupId>dev.firsttoken</groupId><artifactId>levels</artifactId><version>1</version>
<build><outputDirectory>{classes}</outputDirectory><plugins><plugin><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>
<configuration><signature><groupId>{s[0]}</groupId><artifactId>{s[1]}</artifactId><version>{s[2]}</version></signature>
<ignores>{ignores}</ignores><annotations><annotation>{guarded}</annotation></annotations></configuration></plugin></plugins></build></project>
"""


def check() -> int:
    """Prints what the oldest Android lacks; returns 1 if there is any. Raises `BuildError`."""
    made = app.build()
    found = lacking(made, GUARDED)
    for line in found:
        print(line)
    print(f"{len(found)} uses of what Android 8 (API 26) lacks")
    return 1 if found else 0


def lacking(made: app.App, guarded: str) -> list[str]:
    """Returns what core and app use that the oldest Android lacks, but for what the annotation ``guarded`` marks. Raises `BuildError`."""
    folder = WORK / "levels"
    shutil.rmtree(folder, ignore_errors=True)
    classes = folder / "classes"
    for source in (made.core, made.classes):
        shutil.copytree(source, classes, dirs_exist_ok=True)
    [signature] = libraries("android-signature")
    group, artifact, version = PLUGIN.split(":")
    ignores = "".join(f"<ignore>{escape(name)}</ignore>" for name in IGNORED)
    pom = folder / "pom.xml"
    pom.write_text(
        POM.format(classes=classes, group=group, artifact=artifact, version=version, s=signature, ignores=ignores, guarded=guarded),
        encoding="utf-8",
    )
    done = subprocess.run([program("mvn"), "-B", "-ntp", "-f", pom, f"{PLUGIN}:check"], capture_output=True, text=True)
    found = [line.removeprefix("[ERROR] ") for line in done.stdout.splitlines() if "Undefined reference" in line]
    if done.returncode and not found:
        reason = next((line for line in done.stdout.splitlines() if "ERROR" in line), f"status {done.returncode}")
        raise BuildError(f"the API levels cannot be checked: {reason.removeprefix('[ERROR] ')[:400]}")
    return [line.replace(str(folder), "").strip() for line in found]
