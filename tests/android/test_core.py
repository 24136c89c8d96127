"""android-demo/core on the JVM: its own tests, and against Python's tokenizers, clock, statistics, manifest and measurement schema."""

import re

import pytest
from building import check_skipped

from firsttoken.measure.measurement import read_measurement
from firsttoken.measure.summary import groups

pytestmark = pytest.mark.slow


def test_all_kotlin_tests_pass_and_none_is_skipped(core_said):
    passed, failed = map(int, re.search(r"^(\d+) passed, (\d+) failed$", core_said, re.MULTILINE).groups())
    assert failed == 0 and passed >= 125, core_said
    check_skipped(core_said)


def test_measurements_that_kotlin_wrote_are_read_by_python(core_said, parity):
    files = sorted((parity / "written-by-core").glob("*.json"))
    assert len(files) >= 10
    runs = 0
    for file in files:
        [result] = read_measurement(file).results
        runs += sum(len(found) for found in groups(result).values())
        assert all(run.stages.first_token > 0 for run in result.runs)
    assert runs > 20
    full = read_measurement(parity / "written-by-core" / "full.json")
    [result] = full.results
    assert (result.processor, result.artifact.soc, result.proof.same_top) == ("NPU", "SM8650", 0.98)
    assert (result.runner.kind, result.runner.fallback) == ("java", "no library")
    assert full.device.kind == "phone" and full.device.cpu.clusters == {"2841600": 1} and full.device.memory_bytes == 8 << 30
    assert result.runs[0].stages.first_token == 21 and result.runs[0].decode.nanoseconds == 5_000_000_000
    assert (result.runs[0].turn, result.runs[0].cached_tokens, result.runs[0].first_answer) == (3, 20, 9_000_000_000)
    assert result.failures[0].message == "é 日 😀" and result.failures[1].prompt_tokens is None
    assert result.before.temperatures == {"cpu": 41.5} and result.bundle.proof.same_top == 0.99
