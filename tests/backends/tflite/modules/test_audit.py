"""The audit reads the written file: faults planted there are named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from firsttoken.backends.tflite.modules.backend import TfliteModules
from firsttoken.backends.tflite.modules.graph_file import GraphFile
from firsttoken.backends.tflite.modules.matching import match
from firsttoken.backends.tflite.modules.quantization import check_quantized, name_operators, quantize
from firsttoken.backends.tflite.modules.written import WrittenOperators
from firsttoken.errors import FirstTokenError

KINDS = {"linear": "int8", "conv": "int8", "depthwise": "int8-weight"}


@pytest.fixture
def written(conv, tmp_path):
    path = tmp_path / "model.tflite"
    return path, conv.lower(conv.plan(**KINDS), path)


def change(path: Path, what: Callable[[GraphFile], None]) -> None:
    file = GraphFile.read(path)
    what(file)
    file.write(path)


def weight_of(file: GraphFile, layer: str):
    operator = WrittenOperators(file).read(0, f"run_batch1/{layer}/0").operator
    return file.tensor(0, operator.inputs[1]), operator


def other_scales(file: GraphFile) -> None:
    tensor, _ = weight_of(file, "point")
    tensor.quantization.scale = np.asarray(tensor.quantization.scale) * np.float32(1.01)


def dropped_bias(file: GraphFile) -> None:
    _, operator = weight_of(file, "head")
    file.model.subgraphs[0].operators[operator.index].inputs = np.array([*operator.inputs[:2], -1], np.int32)


def weights_of_another(file: GraphFile) -> None:
    tensor, _ = weight_of(file, "block.0")
    raw = np.array(file.model.buffers[tensor.buffer].data)
    file.model.buffers[tensor.buffer].data = raw[::-1].copy()


def lost_layer(file: GraphFile) -> None:
    tensor = file.tensor(0, weight_of(file, "head")[1].outputs[0])
    tensor.name = b"something else"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (other_scales, "the weights of point in 'run_batch1/point/0' are not those that were written"),
        (dropped_bias, "the bias of head in 'run_batch1/head/0' are not those that were written"),
        (weights_of_another, "the weights of block.0 in 'run_batch1/block.0/0' are not those that were written"),
        (lost_layer, "the file has no operator 'run_batch1/head/0' with a weight"),
    ],
)
def test_planted_faults(fault, said, conv, written):
    path, lowered = written
    TfliteModules().audit(path, lowered, conv.layers, conv.plan(**KINDS))
    change(path, fault)
    with pytest.raises(FirstTokenError, match=said):
        TfliteModules().audit(path, lowered, conv.layers, conv.plan(**KINDS))


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ({"point": "fp32"}, "point: int8 was asked, but run_batch1/point/0 is stored as fp32"),
        ({"depthwise.0": "fp16"}, "depthwise.0: int8-weight was asked, but run_batch1/depthwise.0/0 is stored as fp16"),
    ],
)
def test_a_layer_that_the_quantizer_left_as_it_was(planted, said, conv):
    precisions, (file, found, names) = conv.plan(**KINDS), named(conv)
    with pytest.raises(FirstTokenError, match=said):
        check_quantized(file, quantize(file, found, precisions | planted, {}, ()), found, names, precisions)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (other_scales, r"point: \d+ weights that are not those of the float file"),
        (weights_of_another, r"block.0: \d+ weights that are not those of the float file"),
        (dropped_bias, "head: a bias that was dropped"),
    ],
)
def test_a_quantizer_that_writes_something_else(fault, said, conv):
    precisions, (file, found, names) = conv.plan(**KINDS), named(conv)
    quantized = quantize(file, found, precisions, {}, ())
    check_quantized(file, quantized, found, names, precisions)
    fault(quantized)
    with pytest.raises(FirstTokenError, match=said):
        check_quantized(file, quantized, found, names, precisions)


def named(conv):
    file = conv.file()
    found = match(file, conv.layers, dict(conv.module.program.state_dict), conv.plan())
    return file, found, name_operators(file, found)


def test_a_file_that_was_cut_off(conv, written):
    path, lowered = written
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(FirstTokenError, match="cut off|damaged"):
        TfliteModules().audit(path, lowered, conv.layers, conv.plan(**KINDS))
    path.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(FirstTokenError, match="not a .tflite file"):
        TfliteModules().audit(path, lowered, conv.layers, conv.plan(**KINDS))
