"""The artifacts of four families, every built-in plan and every target that this machine can lower, byte for byte as they were.

artifact_hashes.json is written by ``python tests/recorded_artifacts.py FOLDER --record``; a commit that changes it says
why, and shows that the numbers are the same. Where lowering takes seconds, every family is lowered with the default plan and one family
with every plan; FIRSTTOKEN_ALL_ARTIFACTS=1 takes every plan for each of four families, which takes ten minutes more.
"""

import json
import os

import pytest
from exact_checkpoints import CASES, write_case
from recorded_artifacts import RECORD, TARGETS, arithmetic, rounding_plans, write_artifact

RECORDED = json.loads(RECORD.read_text())
# Of the cases: these with every plan, where lowering takes seconds.
FAMILIES = ("llama", "mistral", "qwen2", "qwen3") if os.environ.get("FIRSTTOKEN_ALL_ARTIFACTS") else ("qwen2",)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exact")
    return lambda case: folder / case if (folder / case).is_dir() else write_case(case, folder / case)


def combinations():
    for target in TARGETS:
        slow = target.startswith("executorch")
        for case in CASES:
            plans = [plan for plan in rounding_plans() if not slow or case in FAMILIES or plan == "fp16-attention"]
            yield pytest.param(case, target, plans, marks=[pytest.mark.slow] if slow else [], id=f"{case}-{target}")


@pytest.mark.skipif(arithmetic() != RECORDED["arithmetic"], reason="this processor rounds float32 powers, sines or cosines otherwise")
@pytest.mark.parametrize("case, target, plans", combinations())
def test_bytes_are_as_recorded(case, target, plans, checkpoint, tmp_path):
    made = {f"{case}/{plan}/{target}": write_artifact(checkpoint(case), plan, target, tmp_path / "artifact") for plan in plans}
    assert made == {name: RECORDED["artifacts"][name] for name in made}
