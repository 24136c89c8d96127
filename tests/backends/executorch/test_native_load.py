"""Packed weights of a .pte outlive the start that packed them; whatever is wrong with such a file is noticed, and the logits are those of the weights."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from executorch_fixtures import Lowerings

from firsttoken.backends.executorch import native_load
from firsttoken.backends.executorch.flatbuffer import read_program
from firsttoken.backends.executorch.native import NativeModel
from firsttoken.backends.executorch.native_build import native_library
from firsttoken.backends.executorch.native_load import LOCK, PACKAGE, cpu_kind, load_native
from firsttoken.backends.tflite import weight_cache
from firsttoken.backends.tflite.weight_cache import note_of, packed_file
from firsttoken.bundle.manifest import FileFacts
from firsttoken.file_hash import hash_file

pytestmark = pytest.mark.slow

TOKENS = [5, 9, 3, 77, 12, 8]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_cache, "cache_folder", lambda: tmp_path)
    return tmp_path / "xnnpack"


def facts_of(artifact: Path) -> FileFacts:
    return FileFacts(sha256=hash_file(artifact), bytes=artifact.stat().st_size)


def complete(folder: Path, artifact: Path) -> Path:
    return packed_file(folder, hash_file(artifact), PACKAGE, cpu_kind())


def logits_of(model, vocabulary: int) -> np.ndarray:
    found = np.zeros(vocabulary, np.float32)
    model.run([np.array([TOKENS], np.int64), np.arange(len(TOKENS))], found)
    return found


def loaded(artifact: Path, vocabulary: int, kept: bool = True):
    """The logits, what was said, and whether a file of packed weights was mapped."""
    model, note = load_native(native_library()[0], artifact, facts_of(artifact) if kept else None)
    logits, mapped = logits_of(model, vocabulary), hash_file(artifact) in Path("/proc/self/maps").read_text()
    model.close()
    return logits, note, mapped


@pytest.fixture
def subject(lowerings):
    """An artifact, how many logits it gives, and those that it gives when it packs in memory."""
    artifact, vocabulary = lowerings.lower("int8")[0], lowerings.config.vocab_size
    logits, note, mapped = loaded(artifact, vocabulary, kept=False)
    assert not note and not mapped
    return artifact, vocabulary, logits


def test_the_second_start_maps_what_the_first_one_packed(subject, folder):
    artifact, vocabulary, wanted = subject
    for _ in range(2):
        logits, note, mapped = loaded(artifact, vocabulary)
        assert np.array_equal(logits, wanted) and not note and mapped
        facts = complete(folder, artifact).stat()
    assert loaded(artifact, vocabulary)[2] and complete(folder, artifact).stat() == facts, "the runtime writes nothing into a complete file"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [complete(folder, artifact).name, note_of(complete(folder, artifact)).name, LOCK]
    )


def test_several_map_it_at_once(subject, folder):
    artifact, vocabulary, wanted = subject
    library, facts = native_library()[0], facts_of(artifact)
    models = [load_native(library, artifact, facts)[0] for _ in range(3)]
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(complete(folder, artifact)) in line]
    assert len({line.split()[0] for line in maps}) >= 3, "one writes it, the others read it while it is open"
    assert all(np.array_equal(logits_of(model, vocabulary), wanted) for model in models)
    for model in models:
        model.close()


def another(artifact: Path, path: Path) -> Path:
    """A model of the same shapes: the lowest bit of every byte of the weights is another."""
    content = bytearray(artifact.read_bytes())
    for offset, size in read_program(artifact).segments[1:]:  # the first has constants of the program, indices among them
        if content[offset + 4 : offset + 8] != b"XH00":  # a graph
            content[offset : offset + size] = bytes(byte ^ 1 for byte in content[offset : offset + size])
    path.write_bytes(content)
    return path


def flipped(packed: Path, artifact: Path, other: Path):
    content = bytearray(packed.read_bytes())
    content[len(content) // 3] ^= 64
    packed.write_bytes(content)


def halved(packed: Path, artifact: Path, other: Path):
    os.truncate(packed, packed.stat().st_size // 2)


def foreign(packed: Path, artifact: Path, other: Path):
    """The packed weights of another model of the same shapes: the runtime itself would take them."""
    shutil.copy(other, packed)


def noteless(packed: Path, artifact: Path, other: Path):
    note_of(packed).unlink()


@pytest.mark.parametrize("harm", [flipped, halved, foreign, noteless])
def test_a_file_that_is_not_as_it_was_packed_is_packed_again(subject, folder, lowerings, tmp_path, harm):
    artifact, vocabulary, wanted = subject
    other = another(artifact, tmp_path / "other.pte")
    assert not np.array_equal(loaded(other, vocabulary)[0], wanted)
    loaded(artifact, vocabulary)
    packed = complete(folder, artifact)
    before = packed.stat().st_mtime_ns
    harm(packed, artifact, complete(folder, other))
    logits, note, mapped = loaded(artifact, vocabulary)
    assert np.array_equal(logits, wanted) and mapped and not note
    assert packed.stat().st_mtime_ns > before and loaded(artifact, vocabulary)[2]


def test_what_a_process_left_that_died_while_it_packed_goes(subject, folder):
    artifact, vocabulary, wanted = subject
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folder.mkdir()
    half = folder / f"{complete(folder, artifact).name}.{dead.pid}.partial"
    half.write_bytes(b"half")
    assert np.array_equal(loaded(artifact, vocabulary)[0], wanted) and not half.exists()


def test_another_kind_of_cpu_has_a_file_of_its_own(subject, folder, monkeypatch):
    artifact, vocabulary, wanted = subject
    loaded(artifact, vocabulary)
    monkeypatch.setattr(native_load, "cpu_kind", lambda: "another")
    assert np.array_equal(loaded(artifact, vocabulary)[0], wanted)
    assert len(list(folder.glob("*.cache"))) == 2
    assert len(cpu_kind()) == 12


def test_a_name_too_long_for_the_runtime_is_said(subject, tmp_path, monkeypatch):
    long = tmp_path / ("x" * 150) / ("y" * 100)
    long.mkdir(parents=True)
    monkeypatch.setattr(weight_cache, "cache_folder", lambda: long)
    logits, note, mapped = loaded(subject[0], subject[1])
    assert np.array_equal(logits, subject[2]) and not mapped and "too long a name" in note


@pytest.mark.parametrize("plan", ["int8", "int4"])
def test_layers_that_the_cache_would_confuse_are_packed_in_memory(tmp_path, folder, plan):
    """One layer is twice another: the same integers, other scales, one name in ExecuTorch's cache."""

    def twice(model):
        first, second = (layer.mlp.up_proj.weight for layer in model.model.layers[:2])
        second.copy_(2 * first)

    made = Lowerings(tmp_path, tmp_path / "checkpoint", alter=twice)
    artifact, vocabulary = made.lower(plan)[0], made.config.vocab_size
    wanted = loaded(artifact, vocabulary, kept=False)[0]
    logits, note, mapped = loaded(artifact, vocabulary)
    assert np.array_equal(logits, wanted) and not mapped and "the same integers and other scales" in note
    forced = folder / "forced.cache"
    model = NativeModel(native_library()[0], artifact, forced)
    assert not np.array_equal(logits_of(model, vocabulary), wanted), (
        "the runtime can tell them apart now: packing.py is not needed any more"
    )
    model.close()
