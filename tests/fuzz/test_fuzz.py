"""A few seconds of every reader in Python, and in full runs about two minutes of them and of the native ones. `scripts/fuzz` goes on from there."""

import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fuzz.limits import Counts, make_input, run, show
from fuzz.readers import READERS, Reader

from firsttoken.errors import FirstTokenError

PYTHON = [reader for reader in READERS if not reader.native]
NATIVE = [reader for reader in READERS if reader.native]
LEARNING = [reader for reader in PYTHON if reader.imports]  # PyTorch alone takes seconds to import
FEW, MANY, SECONDS = 8, 220, 8.0
# Of the native ones' inputs; the command line tells each such death in one line (`cli.watch`).
MOST_DEATHS = 0.1


def ready(reader: Reader, folder: Path) -> Reader:
    made = reader.prepared(folder / "good")
    made.warm(Path(shutil.copytree(folder / "good", folder / "warm")))
    return made


def tried(reader: Reader, folder: Path, inputs: int, seconds: float) -> Counts:
    counts = Counts()
    run(ready(reader, folder), folder / "good", 1, range(inputs), counts, time.monotonic() + seconds)
    print(show(reader.name, counts), counts.faults)
    return counts


@pytest.mark.parametrize("reader", [each for each in PYTHON if each not in LEARNING], ids=lambda each: each.name)
def test_a_few_damaged_files_are_read_or_refused(reader, tmp_path):
    assert tried(reader, tmp_path, FEW, SECONDS).faults == {}


@pytest.mark.slow
@pytest.mark.parametrize("reader", PYTHON, ids=lambda each: each.name)
def test_damaged_files_are_read_or_refused(reader, tmp_path):
    counts = tried(reader, tmp_path, MANY, SECONDS)
    assert counts.faults == {}
    assert counts.ended["refused"] > 0, "nothing was damaged"


@pytest.mark.slow
@pytest.mark.parametrize("reader", NATIVE, ids=lambda each: each.name)
def test_damaged_artifacts_hardly_ever_end_the_process(reader, tmp_path):
    counts = tried(reader, tmp_path, MANY, 3 * SECONDS)
    assert {outcome for outcome, _ in counts.faults.values()} <= {"died"}, counts.faults
    assert counts.ended["died"] <= max(3, MOST_DEATHS * counts.inputs)
    assert counts.ended["read"] and counts.ended["refused"]


def refuse(path: Path) -> None:
    raise FirstTokenError("no")


def compute(path: Path) -> None:
    while True:
        str(path)


def wait(path: Path) -> None:
    while True:
        time.sleep(1)


WAYS = {
    "read": lambda path: None,
    "refused": refuse,
    "traceback": lambda path: {}["absent"],
    "hang": wait,
    "hang (computing)": compute,
    "growth": lambda path: bytearray(3 << 30),
    "died": lambda path: os.kill(os.getpid(), signal.SIGSEGV),
}


@pytest.mark.parametrize("outcome", WAYS)
def test_every_way_to_end_is_told_apart(outcome, tmp_path, monkeypatch):
    monkeypatch.setattr("fuzz.limits.PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr("fuzz.limits.SECONDS", 0.3)
    reader = replace(PYTHON[0], write=lambda folder: (folder / "a.json").write_text("{}"), pattern="*.json", read=WAYS[outcome])
    reader = reader.prepared(tmp_path / "good")
    reader = replace(reader, mutate=lambda data, random: data + b" ")
    counts = Counts()
    run(reader, tmp_path / "good", 0, range(3), counts, kept=tmp_path / "kept")
    outcome = outcome.split(" ")[0]
    assert counts.ended == {outcome: 3}
    assert sorted(counts.faults) == ([] if outcome in ("read", "refused") else [0, 1, 2])
    assert len(list((tmp_path / "kept").glob("*"))) == len(counts.faults)


def test_the_same_seed_gives_the_same_inputs(tmp_path):
    reader = next(reader for reader in PYTHON if reader.name == "config").prepared(tmp_path / "good")
    made = [make_input(reader, tmp_path / "good", tmp_path / "made", 5, number) for number in (1, 2)]
    assert made[0].name.endswith(".json")
    contents = [make_input(reader, tmp_path / "good", tmp_path / "made", 5, number).read_bytes() for number in (1, 2, 1)]
    assert contents[0] == contents[2] != contents[1]
