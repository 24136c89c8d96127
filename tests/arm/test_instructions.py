"""Counting on an emulated core, and what the log does not tell. That counts repeat, test_guard.py shows."""

import pytest

from firsttoken.arm.cores import CORES
from firsttoken.arm.emulator import RUNTIMES
from firsttoken.arm.instructions import InstructionCounter, addresses, summed
from firsttoken.errors import FirstTokenError

# "blocks REGION EXECUTED UNTOLD"
LINES = [
    "region 0 4e829420 9",
    "region 1 4e829420 6",
    "region 1 8b020020 4",
    "region 5 f9400020 3",
    "blocks 0 9 500",
    "blocks 1 1000 2",
    "blocks 5 3 0",
    "translated 4e829420 1",
]


def test_regions_become_steps():
    steps = summed(LINES)
    assert (steps["prefill"].total, steps["prefill"].kinds["sdot"]) == (10, 6)
    assert (steps["decode"].total, steps["decode"].kinds["loads"]) == (3, 3)


@pytest.mark.parametrize("lines", [[], LINES[:5], [line.replace("blocks 1 1000 2", "blocks 1 1000 6") for line in LINES]])
def test_a_log_with_too_little_is_refused(lines):
    with pytest.raises(FirstTokenError, match="executed blocks of the"):
        summed(lines)


def test_a_library_is_found_by_name_in_a_process():
    import os

    import numpy  # noqa: F401 loads the library

    start, _, end = addresses(os.getpid(), "libc.so.6").partition("..")
    assert int(end, 16) > int(start, 16) > 0
    with pytest.raises(FirstTokenError, match="nothing.so is not loaded"):
        addresses(os.getpid(), "nothing.so")


@pytest.mark.slow
def test_twice_the_tokens_take_about_twice_the_instructions(emulated_arm, demo_bundle):
    counter, core = InstructionCounter(), CORES["cortex-a76"]
    bundle = demo_bundle("tflite-xnnpack")
    short, longer = (counter.count(bundle, core, RUNTIMES["litert"], tokens) for tokens in (8, 16))
    assert 1.5 < longer["prefill"].total / short["prefill"].total < 2.5
    assert 0.99 < longer["decode"].total / short["decode"].total < 1.01, "the cache grows in steps, so decode does the same work"
    for step in ("prefill", "decode"):
        assert short[step].kinds["sdot"] > 0 and short[step].kinds["fmla.8h"] > 0
    with pytest.raises(FirstTokenError, match="300 tokens: .* takes up to 256"):
        counter.count(bundle, core, RUNTIMES["litert"], 300)


@pytest.mark.slow
def test_a_garbled_log_is_counted_again(monkeypatch, demo_bundle):
    garbled = [line.replace("blocks 5 3 0", "blocks 5 3 7") for line in LINES]
    logs = iter([None, garbled, garbled, LINES])
    counter, bundle = InstructionCounter.__new__(InstructionCounter), demo_bundle("executorch-xnnpack")
    monkeypatch.setattr("firsttoken.arm.instructions.check_parts", lambda runtimes: None)
    monkeypatch.setattr(InstructionCounter, "_logged", lambda self, *arguments: next(logs))
    assert counter.count(bundle, CORES["cortex-a76"], RUNTIMES["executorch"]) == summed(LINES)
    monkeypatch.setattr(InstructionCounter, "_logged", lambda self, *arguments: garbled)
    with pytest.raises(FirstTokenError, match="tells 3 executed blocks of the decode step and does not tell 7"):
        counter.count(bundle, CORES["cortex-a76"], RUNTIMES["executorch"])
