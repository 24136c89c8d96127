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


def test_a_repository_that_is_no_address():
    done = run("--repository", "google")
    assert done.returncode == 2
    assert done.stdout == "error: --repository google: not the address of a Maven repository; expected https://… or file:///…\n"


def test_an_aar_that_the_app_is_not_built_with(tmp_path):
    (tmp_path / "litert-1.4.0.aar").write_bytes(b"")
    done = run("--aar", tmp_path / "litert-1.4.0.aar")
    assert done.returncode == 2 and "not a name that the app is built with; expected one of executorch-android-" in done.stdout
    assert f"--aar {tmp_path}: holds none of " in run("--aar", tmp_path).stdout
    assert "not there; expected an AAR or jar, or a folder of such" in run("--aar", tmp_path / "absent").stdout
