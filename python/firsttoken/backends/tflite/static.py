"""A layer between integers whose scales are known beforehand: its input is rounded to them, its product comes out in them, and is a float again.

The bias is added to that float: inside the product it would widen the range that one scale has to cover, and XNNPACK packs it with the weight.
"""

from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from firsttoken.backends.tflite.graph import Graph, Op, Type
from firsttoken.bundle.integer_facts import Range, StaticLayer
from firsttoken.precisions import PRECISIONS

TYPES = {"int8": Type.INT8, "int16": Type.INT16}
CONVERTED = {Type.INT8: (1, 2), Type.INT16: (2, 3)}  # versions of QUANTIZE and DEQUANTIZE
PER_ROW = 12  # the version of FULLY_CONNECTED with integers on both sides and a scale for each row


@dataclass(frozen=True)
class Grid:
    """Integers of a type, and the float that each stands for: ``(integer - zero_point) * scale``."""

    dtype: int
    scale: np.float32
    zero_point: int

    def of(self, graph: Graph, tensor: int) -> None:
        """Says so of a tensor."""
        parameters = schema.QuantizationParametersT()
        parameters.scale, parameters.zeroPoint = np.array([self.scale], np.float32), np.array([self.zero_point], np.int64)
        graph.subgraph.tensors[tensor].quantization = parameters


def grid(range: Range, kind: str) -> Grid:
    """The integers that cover a range: int8 with a zero point, -128 to 127; int16 without, -32767 to 32767. Zero is always one of them."""
    low, high = min(range.low, 0.0), max(range.high, 0.0)
    if kind == "int16":
        return Grid(Type.INT16, np.float32(max(-low, high) / 32767 or 1.0), 0)
    scale = np.float32((high - low) / 255 or 1.0)
    return Grid(Type.INT8, scale, int(np.clip(np.rint(-128 - low / float(scale)), -128, 127)))


def static_linear(graph: Graph, x: int, weight: int, bias: int, ranges: StaticLayer) -> int:
    """``x @ weight^T + bias`` of float32 ``x [S, columns]``, float32 ``[S, rows]``; layers that take the same input on the same grid share it."""
    kind = PRECISIONS[ranges.precision].static
    assert kind is not None, "a static precision"
    given, result = grid(ranges.input, kind), grid(ranges.output, kind)
    product = graph.fully_connected(quantize(graph, x, given), weight, -1, PER_ROW)
    result.of(graph, product)
    found = graph.operator(
        Op.DEQUANTIZE, [product], graph.shapes[product], Type.FLOAT32, CONVERTED[result.dtype][1], schema.DequantizeOptionsT()
    )
    return found if bias == -1 else graph.add(found, bias)


def quantize(graph: Graph, x: int, onto: Grid) -> int:
    """``x`` on a grid, once for each."""
    if (x, onto) not in graph.quantized_inputs:
        found = graph.operator(Op.QUANTIZE, [x], graph.shapes[x], onto.dtype, CONVERTED[onto.dtype][0], schema.QuantizeOptionsT())
        onto.of(graph, found)
        graph.quantized_inputs[x, onto] = found
    return graph.quantized_inputs[x, onto]
