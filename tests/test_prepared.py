"""What is said of a calibration text before the work."""

from pathlib import Path

import pytest

from firsttoken.checkpoint import Checkpoint
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.prepared import calibration_text
from firsttoken.quant.plan import load_plan

ROOT = Path(__file__).resolve().parents[1]


def told(plan, text=None):
    said: list[str] = []
    with Checkpoint(checkpoint_path()) as source:
        calibration_text(source, load_plan(plan), text, None, said.append)
    return said


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("int8-apart", "smoothing is tried on firsttoken's calibration text; what is found is kept"),
        ("int4-gptq", "integers are chosen on firsttoken's calibration text; what is found is kept"),
        ("scripts/benchmarks/int8-static.toml", "ranges are taken on firsttoken's calibration text; what is found is kept"),
    ],
)
def test_what_the_text_is_for(plan, said, monkeypatch):
    monkeypatch.chdir(ROOT)
    [line] = told(plan)
    assert line.startswith(said)


def test_a_short_text_is_refused_before_a_word(tmp_path):
    (tmp_path / "short.txt").write_text("Too little to choose by.")
    said: list[str] = []
    with Checkpoint(checkpoint_path()) as source, pytest.raises(FirstTokenError, match=r"short.txt: \d+ tokens; expected at least 1024"):
        calibration_text(source, load_plan("int4-gptq"), tmp_path / "short.txt", None, said.append)
    assert not said


def test_a_plan_that_takes_none_is_told_which_do(tmp_path):
    with pytest.raises(FirstTokenError, match="plan 'int8' chooses no integers on a text; .*with smooth = true, such as int8-apart"):
        told("int8", tmp_path / "any.txt")
