"""Modules lowered to .tflite, run and audited: what LiteRT and XNNPACK do with the written files."""

import numpy as np
import pytest

from firsttoken.backends.tflite.modules.backend import TfliteModules
from firsttoken.backends.tflite.modules.conversion import check_float
from firsttoken.errors import FirstTokenError

pytestmark = pytest.mark.slow

PLANS = [
    ("conv", {}, 1e-5),
    ("conv", {"linear": "int8", "conv": "int8", "depthwise": "int8-weight"}, 0.1),
    ("conv", {"linear": "int8-static", "conv": "int8-static", "depthwise": "int8-static"}, 0.3),
    ("conv", {"linear": "fp16", "conv": "fp16", "depthwise": "fp16"}, 5e-3),
    ("text", {}, 1e-5),
    ("text", {"linear": "int8", "embedding": "int8-weight"}, 0.1),
    ("text", {"linear": "int8-weight", "embedding": "fp16"}, 0.1),
    ("text", {"linear": "int4", "embedding": "int8-weight"}, 0.9),
    ("lstm", {"linear": "int8", "lstm": "int8"}, 0.1),
    ("lstm", {"linear": "fp16", "lstm": "int8-weight"}, 0.1),
]


@pytest.mark.parametrize(
    ("name", "kinds", "most"), PLANS, ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else str(value)
)
def test_every_layer_is_what_was_asked(name, kinds, most, request, tmp_path):
    found = request.getfixturevalue(name)
    precisions, path = found.plan(**kinds), tmp_path / "model.tflite"
    lowered = found.lower(precisions, path)
    rows = TfliteModules().audit(path, lowered, found.layers, precisions)
    assert [row.layer for row in rows] == [layer.name for layer in found.layers]
    assert {row.layer: row.stored.partition("/")[0] for row in rows} == precisions
    assert all(row.delegated for row in rows if precisions[row.layer] != "fp32" and row.layer != "words")
    computed = {"int8": "int8", "int8-static": "int8", "int4": "int4"}
    assert {row.layer: row.computed for row in rows} == {name: computed.get(one, "fp32") for name, one in precisions.items()}
    assert found.error(lowered, path) < most


def test_the_float_file_is_the_module(conv, text, lstm, tmp_path):
    for found in (conv, text, lstm):
        check_float(found.file(), found.sizes, found.module, tmp_path)


def test_a_conversion_that_computes_something_else_is_refused(conv, tmp_path):
    file = conv.file()
    buffer = max((one for one in file.model.buffers if one.data is not None), key=lambda one: len(one.data))
    buffer.data = np.zeros_like(buffer.data)
    with pytest.raises(FirstTokenError, match=r"conv-net: the converted float file differs in 'output' of 'run_batch1'"):
        check_float(file, conv.sizes, conv.module, tmp_path)


def test_int8_is_a_quarter(text, tmp_path):
    sizes = {}
    for precision in ("fp32", "int8"):
        text.lower(text.plan(linear=precision), tmp_path / precision)
        file = text.file().read(tmp_path / precision)
        sizes[precision] = sum(len(one.data) for one in file.model.buffers if one.data is not None and len(one.data) >= 1024)
    weights = sum(int(np.prod(layer.shape)) for layer in text.layers if layer.kind == "linear" and np.prod(layer.shape) >= 1024)
    assert sizes["fp32"] - sizes["int8"] == 3 * weights


def test_layers_of_one_kind_can_differ(text, tmp_path):
    precisions = text.plan() | {"query": "int8", "down": "int8-weight", "up": "fp16"}
    lowered = text.lower(precisions, tmp_path / "model.tflite")
    rows = TfliteModules().audit(tmp_path / "model.tflite", lowered, text.layers, precisions)
    assert {row.layer: row.stored for row in rows} == precisions


def test_what_a_file_says_of_itself(text, tmp_path):
    lowered = text.lower(text.plan(), tmp_path / "model.tflite")
    assert [method.name for method in lowered.methods] == [f"run_batch{batch}_length{length}" for batch in (1, 3) for length in (6, 10)]
    first = lowered.methods[0]
    assert (first.inputs[0].name, first.inputs[0].dtype, first.inputs[0].shape) == ("tokens", "int32", ("batch", "length"))
    assert [one.name for one in first.outputs] == ["topic", "tone"] and first.sizes == {"batch": 1, "length": 6}
    assert lowered.notes == (
        "input tokens is int64 in the module and int32 in the file",
        "places is looked up at fixed places: the file has those rows as FP32 constants",
    )


@pytest.mark.parametrize(
    ("layer", "precision", "said"),
    [
        ("depthwise.0", "int8", r"depthwise.0: int8 was asked of a layer of kind depthwise, which can be .*51 times as slow"),
        ("stem.0", "int4", r"stem.0: int4 .*17 times as slow as FP32"),
        ("head", "int16x8", r"head: int16x8 .*14 to 29 times as slow"),
    ],
)
def test_precisions_that_cost_more_than_they_give(conv, layer, precision, said, tmp_path):
    with pytest.raises(FirstTokenError, match=said):
        TfliteModules().lower(conv.job(conv.plan() | {layer: precision}), tmp_path / "model.tflite")
    assert not (tmp_path / "model.tflite").exists()
