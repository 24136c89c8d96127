"""Damages are measured once: kept, gone on with, and on tokens that no integers were chosen on."""

import itertools
import json

import numpy as np
import pytest
from search_subjects import subject_of

from firsttoken.calibration.text import TOKENS, WINDOW, CalibrationText, windows_of
from firsttoken.errors import FirstTokenError
from firsttoken.search import sensitivity
from firsttoken.search.sensitivity import STRETCH, gaps, measured_damages

ASKED = ("fp16", "int8")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def stop_at(done):
    def report(stage, at, total, unit):
        if stage == "measure damages" and at == done:
            raise KeyboardInterrupt

    return report


def test_an_interrupted_run_goes_on(tiny_model, tmp_path):
    subject = subject_of(tiny_model)
    with pytest.raises(KeyboardInterrupt):
        measured_damages(subject, ASKED, stop_at(7))
    kept = subject.kept_in()
    assert len(kept.read_text().splitlines()) == 7
    before = kept.read_bytes()
    with open(kept, "ab") as stream:
        stream.write(b'{"layer": "head", "precis')  # killed while it wrote
    seen = []
    found = measured_damages(subject, ASKED, lambda stage, done, total, unit: seen.append((stage, total)))
    assert kept.read_bytes().startswith(before)
    assert max(total for stage, total in seen if stage == "measure damages") == sum(len(own) for own in found.values()) - 7
    kept.unlink()
    assert measured_damages(subject, ASKED) == found
    assert measured_damages(subject, ("int8",))["layers.0.mlp.up"] == {
        one: value for one, value in found["layers.0.mlp.up"].items() if one.label == "int8"
    }


def test_what_was_kept_is_not_measured_again(tiny_model, monkeypatch):
    subject = subject_of(tiny_model)
    found = measured_damages(subject, ASKED)
    monkeypatch.setattr(sensitivity, "Damages", None)
    assert measured_damages(subject, ASKED) == found
    other = subject_of(tiny_model, tokens=384)
    assert other.kept_in() != subject.kept_in()


def test_a_file_that_is_no_list_of_damages(tiny_model):
    subject = subject_of(tiny_model)
    subject.kept_in().write_text(json.dumps({"layer": "head", "damage": "much"}) + "\n")
    with pytest.raises(FirstTokenError, match=r"jsonl, line 1: no damage of a layer; remove the file"):
        measured_damages(subject, ASKED)


@pytest.mark.parametrize("count", [TOKENS + 3000, 2 * TOKENS, 3 * TOKENS])
def test_no_window_lies_where_integers_are_chosen(count):
    windows = TOKENS // WINDOW
    taken = {
        at for n in range(windows) for at in range(n * (count - WINDOW) // (windows - 1), n * (count - WINDOW) // (windows - 1) + WINDOW)
    }
    starts = gaps(count)
    assert len(starts) >= 5
    assert all(taken.isdisjoint(range(start, start + STRETCH)) for start in starts)
    assert all(b - a >= STRETCH for a, b in itertools.pairwise(starts))


def test_the_built_in_text_has_room_for_both(tiny_model):
    subject = subject_of(tiny_model, tokens=1024)
    from firsttoken.tokenizer import Tokenizer

    tokens = subject.windows()
    assert [len(window) for window in tokens] == [STRETCH] * 8
    chosen_on = {
        tuple(window[at : at + 32]) for window in windows_of(subject.text, Tokenizer(tiny_model)) for at in range(len(window) - 32)
    }
    assert not any(tuple(window[1 + at : 33 + at]) in chosen_on for window in tokens for at in range(STRETCH - 33))


def test_a_text_that_is_too_short(tiny_model):
    subject = subject_of(tiny_model, text=CalibrationText("short.txt", "a few words " * 20))
    with pytest.raises(FirstTokenError, match=r"calibration text short.txt: \d+ tokens; expected at least 256 to measure damages on"):
        subject.windows()


def test_not_enough_memory(tiny_model, monkeypatch):
    monkeypatch.setattr(sensitivity, "available_memory", lambda: 1 << 20)
    with pytest.raises(FirstTokenError, match="keeps all weights in FP32 and needs about .* of memory, 1.0 MiB are available"):
        measured_damages(subject_of(tiny_model), ASKED)


def test_damages_add_up_to_the_wholes(tiny_model):
    from firsttoken.prove.arithmetic import Fp32
    from firsttoken.prove.reference import logits_in
    from firsttoken.prove.twin import planned
    from firsttoken.quant.plan import load_plan

    subject = subject_of(tiny_model, tokens=512)
    found = measured_damages(subject, ("int8",))
    summed = sum(value for own in found.values() for one, value in own.items() if one.label == "int8")
    precisions = {name: "int8" if any(one.label == "int8" for one in own) else "fp32" for name, own in found.items()}
    plan = planned(subject.decoder, load_plan("int8"), precisions, subject.backend)
    windows = subject.windows()
    everywhere = list(range(len(windows)))
    exact, rounded = logits_in(
        subject.source, subject.decoder, [(Fp32(), everywhere), (plan, everywhere)], windows, [np.arange(STRETCH)] * len(windows)
    )
    p, q = (np.concatenate(logits).astype(np.float64) for logits in (exact, rounded))
    p, q = (values - np.log(np.exp(values).sum(-1, keepdims=True)) for values in (p, q))
    whole = (np.exp(p) * (p - q)).sum(-1).mean()
    assert 0.7 < summed / whole < 1.4
