"""scripts/build_apk without building: what it says."""

import subprocess
import sys
from pathlib import Path

BUILD = Path(__file__).parents[2] / "scripts" / "build_apk"


def run(*arguments, **more) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, BUILD, *arguments], capture_output=True, text=True, timeout=60, **more)


def test_help_teaches():
    text = run("--help").stdout
    for part in ("--test", "--parity", "openjdk-17-jdk-headless", "examples:", ".work/android"):
        assert part in text


def test_a_missing_program_says_what_to_install(tmp_path):
    done = run("--test", env={"PATH": str(tmp_path)})
    assert done.returncode == 2 and done.stderr == ""
    assert done.stdout.startswith("error: ") and "is not installed; install " in done.stdout and done.stdout.count("\n") == 1


def test_a_parity_folder_that_is_not_there():
    done = run("--test", "--parity", "no/such/folder")
    assert (
        done.returncode == 2 and done.stdout == "error: --parity no/such/folder: not a folder; expected what tests/android/parity.py made\n"
    )
