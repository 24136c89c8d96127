"""A .tflite without the weights that XNNPACK has packed in another file: their places are one small region, and what reads it computes NaN.

XNNPACK finds a packed weight by the number of its buffer, and looks at its bytes only where it has to pack it. So the buffers that
nothing but FULLY_CONNECTED reads as its weights may overlap, each from a byte of its own on. No holes: the file is short wherever it is copied.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from firsttoken.backends.tflite.audit import read_header
from firsttoken.backends.tflite.model_file import ALIGNMENT, aligned
from firsttoken.backends.tflite.row_scales import RowScales, pack
from firsttoken.file_hash import READ_BYTES
from firsttoken.plain_file import open_plain

NOT_A_NUMBER = b"\xff\x7f"  # as float16, and twice as float32
HUGE = np.float32(3e38)  # the scale of a row of integers without its integers: products overflow


def write_without_weights(source: Path, destination: Path) -> int:
    """Writes ``source`` without the weights of its linear layers to ``destination``; returns how many bytes it does without.

    Raises `OSError` for a full disk, `FirstTokenError` for what is no .tflite.
    """
    model, _ = read_header(source)
    left_out = weights_of_linear_layers(model)
    share_scales(model, set(left_out))
    kept = [n for n, buffer in enumerate(model.buffers) if buffer.offset > 1 and n not in set(left_out)]
    before = {n: (model.buffers[n].offset, model.buffers[n].size) for n in kept}
    offset = aligned(len(pack(model)))  # offsets are numbers of a fixed width
    for n in kept:
        model.buffers[n].offset = offset
        offset = aligned(offset + model.buffers[n].size)
    end = overlapped(model, left_out, offset)
    with open_plain(source) as given, open(destination, "wb") as file:
        file.write(pack(model))
        for n in kept:
            start, left = before[n]
            given.seek(start)
            file.seek(model.buffers[n].offset)
            while left and (block := given.read(min(left, READ_BYTES))):
                file.write(block)
                left -= len(block)
        file.seek(offset)
        file.write(NOT_A_NUMBER * ((end - offset) // len(NOT_A_NUMBER)))
    return source.stat().st_size - destination.stat().st_size


def overlapped(model: schema.ModelT, buffers: list[int], offset: int) -> int:
    """Puts buffers over each other from ``offset`` on, each at a place of its own; returns where they end."""
    end = offset
    for place, n in enumerate(buffers):
        model.buffers[n].offset = offset + place * ALIGNMENT
        end = max(end, model.buffers[n].offset + model.buffers[n].size)
    return aligned(end)


def weights_of_linear_layers(model: schema.ModelT) -> list[int]:
    """The numbers of the buffers behind the header that are read as weights of FULLY_CONNECTED and as nothing else."""
    read_as: dict[int, set[tuple[int, int]]] = defaultdict(set)
    for graph in model.subgraphs:
        for operator in graph.operators:
            kind = model.operatorCodes[operator.opcodeIndex].builtinCode
            for place, tensor in enumerate(map(int, operator.inputs)):
                if tensor >= 0:
                    read_as[graph.tensors[tensor].buffer].add((kind, place))
    weight = {(schema.BuiltinOperator.FULLY_CONNECTED, 1)}
    return [n for n, buffer in enumerate(model.buffers) if buffer.offset > 1 and read_as[n] == weight]


def share_scales(model: schema.ModelT, left_out: set[int]) -> None:
    """Lets tensors of equal scales share them, as they did before the header was read; those of weights that are left out become `HUGE`."""
    shared: dict[object, RowScales] = {}
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        found = tensor.quantization
        if found is None or found.scale is None or len(found.scale) < 2 or found.details is not None:
            continue
        scales = np.asarray(found.scale, np.float32)
        if tensor.buffer in left_out:
            tensor.quantization = shared.setdefault(len(scales), RowScales(np.full(len(scales), HUGE)))
        elif found.quantizedDimension == 0 and not np.any(found.zeroPoint):
            tensor.quantization = shared.setdefault(scales.tobytes(), RowScales(scales))
