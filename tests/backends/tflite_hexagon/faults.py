"""Tiny graphs that hold one construct each which LiteRT's compiler takes for Hexagon without a word, and which comes out wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from firsttoken.backends.tflite.graph import Dynamic, Graph, Op, Type
from firsttoken.backends.tflite.model_file import ModelFile
from firsttoken.backends.tflite.ops import TfliteOps

INVERSE_FREQUENCIES = (1.0 / 10000.0 ** (np.arange(0, 64, 2) / 64)).astype(np.float32)
CACHE = (1, 2, 8, 4)  # batch, heads, rows, head_dim
SCALE = 1 / 256  # of int16 values
NORM_ROWS, NORM_WIDTH, NORM_EPSILON = 8, 576, 1e-5


def start(name: str = "decode") -> Graph:
    graph = Graph(ModelFile("fault"), name)
    graph.scope = "layers.0.attention"
    return graph


def finish(graph: Graph, path: Path, output: int) -> Path:
    graph.output("result", output)
    graph.finish()
    graph.file.write(path)
    return path


def angles_in_graph(path: Path, operator: int = Op.COS) -> Path:
    """cos (or sin) of position times frequencies, computed in the graph: what rotary embeddings usually do."""
    graph = start()
    position = graph.input("position", [1, 1], Type.FLOAT32)
    return finish(graph, path, graph.unary(operator, graph.multiply(position, graph.constant(INVERSE_FREQUENCIES[None]))))


def cache_update(path: Path) -> Path:
    """One row written into a cache [batch, heads, rows, head_dim] by DYNAMIC_UPDATE_SLICE."""
    graph = start()
    cache = graph.input("cache", CACHE, Type.FLOAT32)
    row = graph.input("row", [1, CACHE[1], 1, CACHE[3]], Type.FLOAT32)
    place = graph.input("place", [4], Type.INT32)
    updated = graph.operator(Op.DYNAMIC_UPDATE_SLICE, [cache, row, place], CACHE, Type.FLOAT32, 1, schema.DynamicUpdateSliceOptionsT())
    return finish(graph, path, updated)


def integer_mean(path: Path) -> Path:
    """The mean of int16 values with static scales, as a statically quantized RMSNorm has it."""
    graph = start()
    values = graph.input("values", [1, 64], Type.INT16)
    mean = graph.mean_last(values)
    for tensor in (values, mean):
        parameters = schema.QuantizationParametersT()
        parameters.scale, parameters.zeroPoint = np.array([SCALE], np.float32), np.array([0], np.int64)
        graph.subgraph.tensors[tensor].quantization = parameters
    return finish(graph, path, mean)


def squares_in_graph(path: Path, to_unit_size: Callable[[Graph, int, float], int] = TfliteOps.to_unit_size) -> Path:
    """Rows divided by their root mean square, as a norm does it; the CPU's way squares the values as they are."""
    graph = start()
    return finish(graph, path, to_unit_size(graph, graph.input("values", [NORM_ROWS, NORM_WIDTH], Type.FLOAT32), NORM_EPSILON))  # type: ignore[arg-type]


def run_time_length(path: Path) -> Path:
    """A sum over as many tokens as the host chooses, with 8 as the stand-in."""
    graph = start("first")
    values = graph.input("values", [Dynamic("tokens", 8), 4], Type.FLOAT32)
    return finish(graph, path, graph.multiply(values, values))


def refused_embedding(path: Path) -> Path:
    """An int8 table looked up in the graph: the compiler takes the multiplication behind it, and leaves the look-up."""
    graph = start()
    graph.scope = "embedding"
    tokens = graph.input("tokens", [4], Type.INT32)
    table = graph.constant(np.arange(40).reshape(10, 4), np.int8)
    values = graph.cast(graph.gather_rows(table, tokens, version=2), Type.FLOAT32)
    graph.scope = "layers.0.mlp"
    return finish(graph, path, graph.multiply(values, values))


def nothing_for_the_npu(path: Path) -> Path:
    """Nothing but an int8 look-up."""
    graph = start()
    graph.scope = "embedding"
    tokens = graph.input("tokens", [4], Type.INT32)
    return finish(graph, path, graph.gather_rows(graph.constant(np.arange(40).reshape(10, 4), np.int8), tokens, version=2))
