"""Running scripts/build_apk from tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BUILD = [sys.executable, REPOSITORY / "scripts" / "build_apk"]
PACKAGES = {
    "java": "openjdk-17-jdk-headless",
    "javac": "openjdk-17-jdk-headless",
    "mvn": "maven",
    "aapt2": "aapt",
    "apksigner": "apksigner",
    "gcc": "gcc",
    "g++": "g++",
    "readelf": "binutils",
}


def need(*programs: str):
    """Skips where one of ``programs`` is missing, saying what to install; in CI that is a failure."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        give_up(
            f"{' and '.join(missing)} missing: this part of the Android app is not tested; run: sudo apt-get install {' '.join(sorted({PACKAGES[name] for name in missing}))}"
        )


def give_up(reason: str):
    if os.environ.get("FIRSTTOKEN_CI") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def check_skipped(said: str):
    """Only what needs the extra "hexagon" may be skipped, and that not in CI."""
    skipped = [line for line in said.splitlines() if line.startswith("SKIPPED")]
    assert all("scripts/setup hexagon" in line for line in skipped), skipped
    assert not skipped or os.environ.get("FIRSTTOKEN_CI") != "1", skipped


def build(*arguments, seconds: float = 900, **environment: str) -> str:
    """Runs scripts/build_apk and returns what it said. Skips where Maven gives nothing; in CI that is a failure, like any other."""
    done = subprocess.run([*BUILD, *arguments], capture_output=True, text=True, timeout=seconds, env=os.environ | environment)
    if done.returncode == 2 and "Maven cannot fetch" in done.stdout:
        give_up(
            "Maven cannot fetch what the Android app is built with: "
            + next(line for line in done.stdout.splitlines() if "Maven cannot fetch" in line)
        )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout
