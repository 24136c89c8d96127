"""Scales of rows in a .tflite's header: stored once, however many graphs have a tensor for the same weight.

Every graph has a tensor of its own for a weight, with quantization parameters of its own, and readers ask for as many zero points as there are scales, eight bytes
each: in three graphs these are 36 bytes a row, where four say all of it. In a flatbuffer several may point at one place.
"""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


class Header(flatbuffers.Builder):
    """A header that is being packed, and where in it scales, by their parameters, and zero points, by how many, lie."""

    def __init__(self) -> None:
        super().__init__(1 << 20)
        self.scales: dict[RowScales, int] = {}
        self.zeros: dict[int, int] = {}


class RowScales(schema.QuantizationParametersT):
    """One scale a row, along axis 0, and zero points of 0."""

    def __init__(self, scales: np.ndarray) -> None:
        """``scales`` float32 ``[rows]``, which may be filled in until the header is packed."""
        super().__init__()
        self.scale, self.zeroPoint = scales, np.zeros(len(scales), np.int64)

    def Pack(self, builder: Header) -> int:
        """Returns where the parameters lie in ``builder``."""
        if self not in builder.scales:
            scales = builder.CreateNumpyVector(self.scale)
            if len(self.scale) not in builder.zeros:
                builder.zeros[len(self.scale)] = builder.CreateNumpyVector(self.zeroPoint)
            schema.QuantizationParametersStart(builder)
            schema.QuantizationParametersAddScale(builder, scales)
            schema.QuantizationParametersAddZeroPoint(builder, builder.zeros[len(self.scale)])
            builder.scales[self] = schema.QuantizationParametersEnd(builder)
        return builder.scales[self]


def pack(model: schema.ModelT) -> bytes:
    """The header of a .tflite."""
    header = Header()
    header.Finish(model.Pack(header), file_identifier=b"TFL3")
    return bytes(header.Output())


def share(model: schema.ModelT) -> None:
    """Lets the tensors of a model that was read share zero points, so that `pack` gives no more than was read."""
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        found = tensor.quantization
        if found is None or found.scale is None or found.zeroPoint is None or found.details is not None:
            continue
        if len(found.scale) > 1 and found.quantizedDimension == 0 and not np.any(found.zeroPoint):
            tensor.quantization = RowScales(np.asarray(found.scale, np.float32))
