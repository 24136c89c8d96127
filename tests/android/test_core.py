"""android-demo/core on the JVM: its own tests, and against Python's tokenizers, clock, statistics, manifest and measurement schema."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firsttoken.measure.measurement import read_measurement
from firsttoken.measure.summary import groups

REPOSITORY = Path(__file__).parents[2]
BUILD = [sys.executable, REPOSITORY / "scripts" / "build_apk"]
NEEDED = {"java": "openjdk-17-jdk-headless", "mvn": "maven"}

pytestmark = pytest.mark.slow


def need_tools():
    """Skips where Java or Maven are missing; in CI that is a failure."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if not missing:
        return
    reason = f"{' and '.join(missing)} missing: the Android core is not tested; install {' '.join(NEEDED[name] for name in missing)} (sudo apt-get install …)"
    if os.environ.get("FIRSTTOKEN_CI") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def parity(tmp_path_factory) -> Path:
    from parity import make

    need_tools()
    folder = tmp_path_factory.mktemp("parity")
    make(folder)
    return folder


@pytest.fixture(scope="module")
def kotlin(parity) -> str:
    """What the Kotlin tests said; they have all run."""
    done = subprocess.run([*BUILD, "--test", "--parity", parity], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def test_all_kotlin_tests_pass_and_none_is_skipped(kotlin):
    passed, failed = map(int, re.search(r"^(\d+) passed, (\d+) failed$", kotlin, re.MULTILINE).groups())
    assert failed == 0 and passed >= 80, kotlin


def test_measurements_that_kotlin_wrote_are_read_by_python(kotlin, parity):
    files = sorted((parity / "written").glob("*.json"))
    assert len(files) >= 10
    runs = 0
    for file in files:
        [result] = read_measurement(file).results
        runs += sum(len(found) for found in groups(result).values())
        assert all(run.stages.first_token > 0 for run in result.runs)
    assert runs > 20
    full = read_measurement(parity / "written" / "full.json")
    [result] = full.results
    assert full.device.kind == "phone" and full.device.cpu.clusters == {"2841600": 1} and full.device.memory_bytes == 8 << 30
    assert result.runs[0].stages.first_token == 21 and result.runs[0].decode.nanoseconds == 5_000_000_000
    assert result.failures[0].message == "é 日 😀" and result.failures[1].prompt_tokens is None
    assert result.before.temperatures == {"cpu": 41.5} and result.bundle.proof.same_top == 0.99
