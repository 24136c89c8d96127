"""Scales of rows are stored once, and the runtimes read what every graph's own copy would say."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from firsttoken.backends.tflite.row_scales import RowScales, pack, share


def model_of(parameters):
    """Two graphs, each with a tensor for every one of these parameters."""
    model = schema.ModelT()
    model.version, model.buffers, model.operatorCodes, model.signatureDefs = 3, [schema.BufferT()], [], []
    model.subgraphs = []
    for _ in range(2):
        graph = schema.SubGraphT()
        graph.inputs, graph.outputs, graph.operators, graph.tensors = [], [], [], []
        for one in parameters:
            tensor = schema.TensorT()
            tensor.shape, tensor.type, tensor.quantization = [len(one.scale), 4], 9, one
            graph.tensors.append(tensor)
        model.subgraphs.append(graph)
    return model


def plain(scales, axis=0, zero=0):
    found = schema.QuantizationParametersT()
    found.scale, found.zeroPoint, found.quantizedDimension = scales, np.full(len(scales), zero, np.int64), axis
    return found


ROWS = [np.linspace(0.1, 1, rows, dtype=np.float32) * (1 + number) for number, rows in enumerate((300, 300, 500))]


def test_each_is_there_once_and_read_in_every_graph():
    raw = pack(model_of([RowScales(scales) for scales in ROWS]))
    assert len(raw) < 4 * 1100 + 8 * 800 + 1500  # scales once, zero points of 300 and of 500 rows once
    for graph in schema.ModelT.InitFromPackedBuf(raw, 0).subgraphs:
        for tensor, scales in zip(graph.tensors, ROWS, strict=True):
            assert np.array_equal(tensor.quantization.scale, scales)
            assert np.array_equal(tensor.quantization.zeroPoint, np.zeros(len(scales)))
            assert tensor.quantization.quantizedDimension == 0


def test_scales_that_are_filled_in_later_are_those_that_are_packed():
    later = np.ones(300, np.float32)
    model = model_of([RowScales(later)])
    first = len(pack(model))
    later[:] = ROWS[0]
    raw = pack(model)
    assert len(raw) == first
    assert np.array_equal(schema.ModelT.InitFromPackedBuf(raw, 0).subgraphs[1].tensors[0].quantization.scale, ROWS[0])


def test_what_was_read_takes_no_more_than_it_did():
    raw = pack(model_of([RowScales(scales) for scales in ROWS]))
    read = schema.ModelT.InitFromPackedBuf(raw, 0)
    read.subgraphs = read.subgraphs[:1]
    assert len(pack(read)) > len(raw)
    share(read)
    assert len(pack(read)) < len(raw)


@pytest.mark.parametrize("other", [plain(ROWS[0], axis=1), plain(ROWS[0], zero=3), plain(ROWS[0][:1])])
def test_other_parameters_stay_as_they_are(other):
    model = model_of([other])
    share(model)
    assert model.subgraphs[0].tensors[0].quantization is other
    read = schema.ModelT.InitFromPackedBuf(pack(model), 0).subgraphs[0].tensors[0].quantization
    assert np.array_equal(read.scale, other.scale)
    assert np.array_equal(read.zeroPoint, other.zeroPoint)
    assert read.quantizedDimension == other.quantizedDimension
