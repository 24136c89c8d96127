"""Encoded data in files: the same windows as in memory, made once, mapped by all."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from firsttoken.demo import checkpoint_path
from firsttoken.distill import documents
from firsttoken.distill.documents import training_windows
from firsttoken.distill.encoded import LOCK, WindowWriter, encoded_once, open_encoded
from firsttoken.distill.windows import Encoded, pack
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer


def pieces(seed, count=60):
    random = np.random.default_rng(seed)
    for number in range(count):
        size = int(random.integers(0, 40))
        counted = random.random(size) < (0.6 if number % 7 else 0)
        domain = ("text", "größe", "chat")[int(random.integers(0, 3))]
        yield Encoded(
            random.integers(0, 99, size).tolist(), counted.tolist(), domain, f"datei {number} 日本\n", bool(random.integers(0, 2))
        )


def same(ours, theirs):
    for name in ("tokens", "labels", "domain"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert (ours.positions is None) == (theirs.positions is None)
    if ours.positions is not None:
        np.testing.assert_array_equal(ours.positions, theirs.positions)
    assert ours.domains == theirs.domains and ours.fingerprint() == theirs.fingerprint() and ours.predicted == theirs.predicted
    assert list(ours.source) == [name.replace("\n", " ") for name in theirs.source]


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("length", [8, 16, 33])
@pytest.mark.parametrize("seed", range(4))
def test_windows_in_files_are_those_in_memory(tmp_path, length, seed, apart):
    writer = WindowWriter(tmp_path, length, 7, apart)
    for piece in pieces(seed):
        writer.add(piece)
    writer.finish(["x: bad"])
    found, expected = open_encoded(tmp_path), pack(list(pieces(seed)), length, 7, apart)
    same(found, expected)
    same(found.first(3), expected.first(3))
    assert found.left_out == ("x: bad",) and found.tokens.flags.writeable, "torch warns of arrays that it may not write to"
    assert {path.name for path in tmp_path.iterdir()} == {"tokens", "labels", "domain", "sources", "lines", "facts.json"} | (
        {"positions"} if apart else set()
    )


def test_nothing_to_learn_is_told_as_in_memory(tmp_path):
    for given in ([], [Encoded([], [], "d", "x")], [Encoded([1, 2], [False, False], "d", "x")]):
        writer = WindowWriter(tmp_path, 8, 7)
        for piece in given:
            writer.add(piece)
        with pytest.raises(FirstTokenError) as ours:
            writer.finish()
        with pytest.raises(FirstTokenError) as theirs:
            pack(given, 8, 7)
        assert str(ours.value) == str(theirs.value)


def test_it_is_made_once_and_anew_for_another_key(tmp_path):
    made = []

    def write(folder, seed):
        made.append(seed)
        writer = WindowWriter(folder, 8, 7)
        for piece in pieces(seed):
            writer.add(piece)
        writer.finish()

    for key, seed in (("a" * 64, 1), ("a" * 64, 2), ("b" * 64, 2), ("b" * 64, 3)):
        same(
            encoded_once(tmp_path, key, lambda folder, seed=seed: write(folder, seed)), pack(list(pieces(1 if key[0] == "a" else 2)), 8, 7)
        )
    assert made == [1, 2] and {path.name for path in tmp_path.iterdir()} == {LOCK, "encoded-bbbbbbbbbbbbbbbb"}


def test_what_a_failed_or_killed_run_left_is_made_anew(tmp_path):
    def fails(folder):
        (folder / "tokens").write_bytes(b"half")
        raise FirstTokenError("bad line")

    with pytest.raises(FirstTokenError, match="bad line"):
        encoded_once(tmp_path, "a" * 64, fails)
    assert {path.name for path in tmp_path.iterdir()} == {LOCK}
    (tmp_path / ".encoded-1").mkdir()  # of a process that was killed
    (tmp_path / "encoded-aaaaaaaaaaaaaaaa").mkdir()  # and one without facts

    def write(folder):
        writer = WindowWriter(folder, 8, 7)
        writer.add(Encoded(list(range(20)), [True] * 20, "d", "x"))
        writer.finish()

    assert len(encoded_once(tmp_path, "a" * 64, write)) == 3
    assert {path.name for path in tmp_path.iterdir()} == {LOCK, "encoded-aaaaaaaaaaaaaaaa"}


def test_a_recipes_windows_are_the_same_from_files_and_kept_until_the_data_changes(make_recipe, texts, tmp_path, monkeypatch):
    chats = tmp_path / "chats.jsonl"
    chats.write_text((texts / "chats.jsonl").read_text() + "{\n")
    recipe = make_recipe(
        {"data.train": [{"files": [str(texts / "part*.txt")]}, {"files": [str(chats)], "domain": "chat"}], "data.bad_records": "skip"}
    )
    tokenizer = Tokenizer(checkpoint_path())
    expected, encoded = training_windows(recipe, tokenizer), []
    batch = documents.encode_batch
    monkeypatch.setattr(documents, "encode_batch", lambda *given: encoded.append(1) or batch(*given))
    same(training_windows(recipe, tokenizer, folder=tmp_path / "work"), expected)
    assert encoded
    encoded.clear()
    again = training_windows(recipe, tokenizer, folder=tmp_path / "work")
    same(again, expected)
    assert not encoded and again.left_out == expected.left_out and "line 21" in again.left_out[0]
    shorter = replace_data(recipe, length=16)
    assert training_windows(shorter, tokenizer, folder=tmp_path / "work").tokens.shape[1] == 16 and encoded
    encoded.clear()
    os.utime(chats, (1, 1))
    training_windows(shorter, tokenizer, folder=tmp_path / "work")
    assert encoded


def replace_data(recipe, **changes):
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=changes)})


READER = """
import json, sys
from pathlib import Path
from firsttoken.distill.documents import training_windows
from firsttoken.distill.recipe import check_recipe
from firsttoken.demo import checkpoint_path
from firsttoken.tokenizer import Tokenizer
recipe = check_recipe(json.loads(sys.argv[1]))
windows = len(training_windows(recipe, Tokenizer(checkpoint_path()), folder=Path(sys.argv[2])))
facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(windows, facts["VmHWM"].split()[0])  # kB; what getrusage says counts the process that this one was forked from, too
"""


def test_memory_does_not_grow_with_the_data(recipe_values, tmp_path):
    """Twenty times as many chats, of 2 MiB as integers, and their text of 7 MiB."""
    peaks = {}
    for count in (200, 4000):
        chats = tmp_path / f"{count}.jsonl"
        line = json.dumps({"messages": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "def f(x):\n" * 170}]})
        chats.write_text(f"{line}\n" * count)
        values = recipe_values | {"data": recipe_values["data"] | {"train": [{"files": [str(chats)]}]}}
        said = subprocess.run(
            [sys.executable, "-c", READER, json.dumps(values), str(tmp_path / "work")], capture_output=True, text=True, check=True
        )
        windows, peak = map(int, said.stdout.split())
        peaks[count] = peak / 1024
        assert windows > count
    assert peaks[4000] < peaks[200] + 12, peaks
