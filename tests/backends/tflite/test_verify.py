"""A .tflite that does not hang together is refused in one line before a runtime sees it; whole ones pass."""

import random
import struct
import time
from pathlib import Path

import pytest
from tflite_fixtures import open_lowered

from firsttoken import file_hash
from firsttoken.backends.tflite.audit import read_header
from firsttoken.backends.tflite.verify import check_model, verify
from firsttoken.errors import FirstTokenError


@pytest.fixture(scope="module")
def lowered(tied_checkpoint, untied_checkpoint, tmp_path_factory):
    """Written files of several kinds and what a manifest says of each: ``{name: (path, methods)}``."""
    folder = tmp_path_factory.mktemp("lowered")
    found = {}
    for checkpoint, plan, target in (
        (tied_checkpoint, "fp16-attention", "tflite-xnnpack"),
        (untied_checkpoint, "int4-mlp", "tflite-xnnpack"),
        (untied_checkpoint, "int8", "tflite-compat"),
    ):
        runner = open_lowered(checkpoint, folder / f"{plan}.{target}.tflite", plan, target, cache_length=64, prefill_chunk=32)
        found[plan] = runner.path, runner.facts.methods
        runner.close()
    return found


@pytest.fixture
def whole(lowered, tmp_path):
    """A copy to damage, with its methods."""
    path, methods = lowered["fp16-attention"]
    copy = tmp_path / "model.tflite"
    copy.write_bytes(path.read_bytes())
    return copy, [method.model_copy(deep=True) for method in methods]


def test_what_was_written_passes(lowered):
    for path, methods in lowered.values():
        verify(path, methods)


def refused(path: Path, methods) -> str:
    with pytest.raises(FirstTokenError) as caught:
        verify(path, methods)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_cut_file_is_refused_wherever_it_is_cut(whole):
    path, methods = whole
    content = path.read_bytes()
    for share in range(12):
        path.write_bytes(content[: len(content) * share // 12])
        refused(path, methods)
    path.write_bytes(content[:-1])
    assert "ends at byte" in refused(path, methods)


def test_damage_is_refused_or_harmless_and_never_an_exception_of_another_kind(lowered, tmp_path):
    dice, refusals = random.Random(7), 0
    for path, methods in lowered.values():
        content, header = path.read_bytes(), read_header(path)[1]
        for n in range(9):
            damaged = bytearray(content)
            place = dice.randrange(header - 64)
            if n % 3 == 0:
                damaged[place] ^= 1 << dice.randrange(8)
            elif n % 3 == 1:
                damaged[place : place + 4] = struct.pack("<I", dice.choice([0, 1, 0xFFFFFFFF, 0x7FFFFFFF, dice.randrange(1 << 32)]))
            else:
                damaged[place : place + 64] = dice.choice([bytes(64), dice.randbytes(64)])
            copy = tmp_path / "damaged.tflite"
            copy.write_bytes(damaged)
            try:
                verify(copy, methods)
            except FirstTokenError as error:
                assert "\n" not in str(error)
                refusals += 1
    assert refusals > 8


def first_constant(model) -> int:
    return next(n for n, buffer in enumerate(model.buffers) if buffer.offset > 1)


def constant_tensor(model):
    return next(tensor for tensor in model.subgraphs[0].tensors if model.buffers[tensor.buffer].offset > 1)


def scaled_tensor(model):
    return next(t for t in model.subgraphs[0].tensors if t.quantization is not None and t.quantization.scale is not None and len(t.quantization.scale) > 1)  # fmt: skip


def input_tensor(model):
    return model.subgraphs[0].tensors[int(model.subgraphs[0].inputs[0])]


def set_operator_input(model, value):
    model.subgraphs[0].operators[0].inputs = [value]


def set_operator_output(model, value):
    model.subgraphs[0].operators[0].outputs = [value]


EDITS = {
    "a buffer past the end": (lambda m: setattr(m.buffers[first_constant(m)], "offset", 1 << 40), "buffer .* ends at byte"),
    "a buffer too long": (lambda m: setattr(m.buffers[first_constant(m)], "size", 1 << 40), "ends at byte"),
    "no operators": (lambda m: setattr(m, "operatorCodes", []), "no graphs, operators or signatures"),
    "a signature of no graph": (lambda m: setattr(m.signatureDefs[0], "subgraphIndex", 99), "graph 99, which is not there"),
    "an operator of no kind": (lambda m: setattr(m.subgraphs[0].operators[0], "opcodeIndex", 999), "is of kind 999"),
    "an operator that reads past the end": (lambda m: set_operator_input(m, 1 << 20), "reads tensor 1048576"),
    "an operator that reads what comes later": (lambda m: set_operator_input(m, int(m.subgraphs[0].outputs[0])), "not there by then"),
    "an operator that writes a constant": (lambda m: set_operator_output(m, m.subgraphs[0].tensors.index(constant_tensor(m))), "written already"),
    "a tensor in no buffer": (lambda m: setattr(constant_tensor(m), "buffer", 1 << 20), "buffer 1048576, which is not there"),
    "a constant of another shape": (lambda m: setattr(constant_tensor(m), "shape", [1 << 15, 1 << 15]), "bytes"),
    "a negative dimension": (lambda m: setattr(constant_tensor(m), "shape", [-5, 3]), "has the shape"),
    "an unknown type": (lambda m: setattr(constant_tensor(m), "type", 77), "is of type"),
    "scales of another dimension": (lambda m: setattr(scaled_tensor(m).quantization, "quantizedDimension", 7), "scales along dimension 7"),
    "an output that nobody makes": (lambda m: setattr(m.subgraphs[0], "outputs", [1 << 20]), "input or output 1048576"),
    "an input of another type": (lambda m: setattr(input_tensor(m), "type", 2 if input_tensor(m).type != 2 else 0), "in the manifest"),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_numbers_that_point_nowhere_are_named(lowered, edit):
    path, methods = lowered["fp16-attention"]
    model, _ = read_header(path)
    check_model(path, model, methods)
    change, message = EDITS[edit]
    change(model)
    with pytest.raises(FirstTokenError, match=message):
        check_model(path, model, methods)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m[0].inputs[0], "shape", [*m[0].inputs[0].shape, 3]), r"input .* is \[.*\] in the file, but \[.*, 3\] .* in the manifest"),
        (lambda m: setattr(m[0].outputs[-1], "shape", [1, 1, 1 << 20]), "output .* in the manifest"),
        (lambda m: setattr(m[0].inputs[0], "dtype", "float16"), "float16 in the manifest"),
        (lambda m: setattr(m[0].inputs[0], "name", "other"), "differ in the input 'other'|differ in the input"),
        (lambda m: setattr(m[1], "name", "other"), "no signature 'other'"),
        (lambda m: m[0].outputs.pop(), "differ in the output"),
    ],
)  # fmt: skip
def test_a_manifest_that_says_otherwise_is_refused(whole, change, message):
    path, methods = whole
    change(methods)
    with pytest.raises(FirstTokenError, match=message):
        verify(path, methods)


def test_a_file_that_passed_is_not_read_again_until_it_or_the_manifest_changes(whole, tmp_path, monkeypatch):
    import firsttoken.backends.tflite.verify as module

    path, methods = whole
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(file_hash.time, "time", lambda now=time.time(): now + 60)  # settled
    read = []
    monkeypatch.setattr(module, "read_header", lambda file: read.append(file) or read_header(file))
    for _ in range(3):
        verify(path, methods)
    assert len(read) == 1
    content = bytearray(path.read_bytes())
    content[len(content) // 4 : len(content) // 4 + 64] = bytes(64)
    kept = path.read_bytes()
    path.write_bytes(kept[: len(kept) // 2])
    refused(path, methods)
    path.write_bytes(kept)
    verify(path, methods)
    methods[0].inputs[0].shape = [5]
    refused(path, methods)
    assert len(read) == 4


def test_a_file_just_written_is_not_remembered(whole, tmp_path, monkeypatch):
    """A second write within one tick of the clock would leave the same times."""
    path, methods = whole
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path.touch()
    verify(path, methods)
    assert not list((tmp_path / "cache").rglob("*-verified.json"))
