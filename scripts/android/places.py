"""Where things are, and the programs of the machine."""

import os
import shutil
from pathlib import Path

from android.failure import BuildError

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = REPOSITORY / "android-demo"
APP = PROJECT / "app"
CATALOG = PROJECT / "gradle" / "libs.versions.toml"
WORK = Path(os.environ.get("FIRSTTOKEN_ANDROID_WORK") or REPOSITORY / ".work" / "android").absolute()
JDK = "a JDK 17 or newer (Debian, Ubuntu: openjdk-17-jdk-headless)"
INSTALL = {
    "java": JDK,
    "javac": JDK,
    "mvn": "Maven (Debian, Ubuntu: maven)",
    "aapt2": "aapt2 (Debian, Ubuntu: aapt)",
    "apksigner": "apksigner (Debian, Ubuntu: apksigner)",
}


def program(name: str) -> str:
    """Returns the path of a program. Raises `BuildError` saying what to install."""
    found = shutil.which(name)
    if found is None:
        raise BuildError(f"{name} is not installed; install {INSTALL[name]}")
    return found
