"""The instruction guard: what it says of counts that changed, and (slow) that the counts are what was committed."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from firsttoken.arm.emulator import RUNTIMES
from firsttoken.arm.instruction_kinds import KINDS
from firsttoken.arm.instructions import Counts
from firsttoken.errors import FirstTokenError
from firsttoken.measure.arm_guard import GuardRow, compare, ratios, read_baseline, write_baseline

ROOT = Path(__file__).resolve().parents[2]
BASELINE = ROOT / "tests" / "arm" / "instruction_baseline.json"


def row(plan: str, total: int, target: str = "tflite-xnnpack", **kinds: int) -> GuardRow:
    named = {kind: kinds.get(kind.replace(".", "_"), 0) for kind in KINDS}
    return GuardRow(target, "cortex-a76", plan, RUNTIMES["litert"], {"prefill": Counts(total, named), "decode": Counts(total // 10, named)})


@pytest.fixture
def baseline():
    return ratios([row("fp32", 1_000_000, fmla_4s=700_000), row("fp16-attention", 400_000, sdot=60_000, fmla_8h=90_000, loads=50_000)])


def test_ratios_are_to_the_fp32_plan_of_the_same_target_core_and_step(baseline):
    steps = baseline["tflite-xnnpack"]["cortex-a76"]
    assert steps["fp32"]["prefill"]["total"] == 1 and steps["fp32"]["decode"]["instructions"] == 100_000
    assert steps["fp16-attention"]["prefill"] == {
        "total": 0.4,
        "sdot": 0.06,
        "smmla": 0,
        "smull": 0,
        "fmla.8h": 0.09,
        "fmla.4s": 0,
        "loads": 0.05,
    }
    with pytest.raises(FirstTokenError, match="the plan fp32 was not counted"):
        ratios([row("int8", 5)])


def test_the_same_and_small_changes_are_fine(baseline):
    measured = copy.deepcopy(baseline)
    steps = measured["tflite-xnnpack"]["cortex-a76"]["fp16-attention"]["prefill"]
    steps["total"] *= 1.02
    steps["sdot"] *= 0.98
    assert compare(baseline, baseline) == compare(measured, baseline) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fmla.8h": 0.0, "fmla.4s": 0.18}, "fmla.8h is gone: FP16 is no longer multiplied in FP16, it fell off its fast kernel"),
        ({"sdot": 0.0}, "sdot is gone: INT8 is no longer multiplied by dot products"),
        ({"sdot": 0.006}, "sdot is down to 10%"),
        ({"fmla.4s": 0.05}, "fmla.4s is 0.0500 of all of fp32's instructions instead of 0.0000"),
        ({"total": 0.44}, "it takes 0.440 of fp32's instructions instead of 0.400 (+10.0%)"),
        ({"total": 0.3}, "(-25.0%)"),
    ],
)
def test_what_changed_is_said_in_words(baseline, change, said):
    measured = copy.deepcopy(baseline)
    measured["tflite-xnnpack"]["cortex-a76"]["fp16-attention"]["prefill"] |= change
    problems = compare(measured, baseline)
    assert any(said in problem for problem in problems), problems
    assert all(problem.startswith("plan fp16-attention for tflite-xnnpack on cortex-a76, prefill: ") for problem in problems)


def test_the_yardstick_itself_is_watched(baseline):
    measured = copy.deepcopy(baseline)
    measured["tflite-xnnpack"]["cortex-a76"]["fp32"]["decode"]["instructions"] = 120_000
    assert compare(measured, baseline) == [
        "plan fp32 for tflite-xnnpack on cortex-a76, decode: it takes 0.12 M instructions instead of 0.10 M (+20.0%)"
    ]


def test_what_the_baseline_does_not_have_is_a_problem(baseline):
    measured = copy.deepcopy(baseline)
    measured["tflite-xnnpack"]["neoverse-v1"] = measured["tflite-xnnpack"]["cortex-a76"]
    assert all("the baseline has no" in problem for problem in compare(measured, baseline)) and len(compare(measured, baseline)) == 4


def test_a_baseline_is_for_one_prefill_length(baseline, tmp_path):
    write_baseline(tmp_path / "b.json", 64, {"executorch": "1.5.1"}, baseline)
    assert read_baseline(tmp_path / "b.json", 64) == baseline
    with pytest.raises(FirstTokenError, match="is for a prefill of 64 tokens, not 32; give --tokens 64"):
        read_baseline(tmp_path / "b.json", 32)


def test_the_committed_baseline_shows_what_the_issue_is_about():
    """FP16 attention and INT8 on their fast kernels on cortex-a76, and (what x86 times do not tell) at about the same count."""
    values = read_baseline(BASELINE, 64)
    for target in ("tflite-xnnpack", "executorch-xnnpack"):
        steps = values[target]["cortex-a76"]
        assert steps["fp16-attention"]["prefill"]["fmla.8h"] > 0.05 and steps["fp16-attention"]["prefill"]["sdot"] > 0.05
        assert steps["int8"]["prefill"]["sdot"] > 0.1 and steps["int8"]["decode"]["sdot"] > 0.05
        assert 0.9 < steps["fp16-attention"]["prefill"]["total"] / steps["int8"]["prefill"]["total"] < 1.2


def script(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "arm_instructions"), *arguments], capture_output=True, text=True, env=os.environ
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "plans"),
    [
        ("tflite-xnnpack", ("fp32", "fp16", "int8", "fp16-attention", "fp16-attention-core", "int4-mlp", "int4")),
        ("executorch-xnnpack", ("fp32", "int8", "fp16-attention", "int4-mlp")),
    ],
)
def test_plans_execute_what_they_did(emulated_arm, target, plans):
    done = script("--check", "--target", target, *(word for plan in plans for word in ("--plan", plan)))
    assert done.returncode == 0, done.stderr
    assert f"{len(plans)} plans are as instruction_baseline.json says" in done.stdout and "fmla.8h" in done.stdout


@pytest.mark.slow
def test_a_lost_kernel_fails_the_check_in_words(emulated_arm, tmp_path):
    """On cortex-a53 the same bundle has neither FP16 nor dot products: as if a change on cortex-a76 had lost both."""
    values = json.loads(BASELINE.read_text())
    values["ratios"]["tflite-xnnpack"]["cortex-a53"] = values["ratios"]["tflite-xnnpack"]["cortex-a76"]
    (tmp_path / "b.json").write_text(json.dumps(values))
    done = script(
        "--check",
        "--baseline",
        str(tmp_path / "b.json"),
        "--target",
        "tflite-xnnpack",
        "--cpu",
        "cortex-a53",
        "--plan",
        "fp32",
        "--plan",
        "fp16-attention",
    )
    assert done.returncode == 3
    assert (
        "plan fp16-attention for tflite-xnnpack on cortex-a53, prefill: fmla.8h is gone: FP16 is no longer multiplied in FP16"
        in done.stderr
    )
    assert "decode: sdot is gone: INT8 is no longer multiplied by dot products" in done.stderr
