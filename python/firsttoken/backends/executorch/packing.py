"""Whether XNNPACK's packed weights of a .pte may be kept by the names of their bytes, as ExecuTorch's cache keeps them.

Its name of a packed weight is the SHA-256 of the weight's bytes and of its bias's: not of its scales, nor of its shape. Of two layers with the same integers
and other scales (one layer twice the other, say) the second would be computed with the first one's, without a word. Such a program is packed in memory.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from flatbuffers.number_types import Int8Flags, Uint8Flags
from flatbuffers.table import Table

from firsttoken.backends.executorch.flatbuffer import (
    DAMAGED,
    child,
    integers,
    number,
    read_at,
    read_program,
    root_of,
    slot,
    tables,
    text,
    unreadable,
)
from firsttoken.errors import FirstTokenError
from firsttoken.plain_file import open_plain, why

DELEGATES = 7  # field of ExecutionPlan
ID, PROCESSED, PLACE = 0, 1, 1  # of BackendDelegate and its reference to a segment
HEADER = struct.Struct("<4x4sHII")  # of a graph: magic, the header's length, where its flatbuffer begins and how long it is
VALUES, CONSTANTS, KEY = 2, 8, 2  # of XNNGraph and ConstantDataOffset
UNION, INSIDE = 0, 1  # of XValue: which of its kinds, and the value
PLAIN, QUANTIZED = 1, 2
TENSOR, SCALING, SCALES = 0, 1, 2  # of XNNQuantizedTensorValue
DATATYPE, DIMENSIONS, CONSTANT, RUN_TIME_TYPE = 0, 2, 3, 7  # of XNNTensorValue
PER_CHANNEL, PER_GROUP = 1, 4
SCALE, CHANNEL, GROUP, SCALE_CONSTANT = 0, 1, 2, {PER_CHANNEL: 2, PER_GROUP: 4}  # of PerChannelQuant and PerChannelGroupQuant


def named_apart(artifact: Path) -> bool:
    """Whether no two constants of the program have the same bytes and another meaning. Raises `FirstTokenError` for what is no .pte."""
    program = read_program(artifact)
    meant: dict[str, tuple] = {}
    try:
        with open_plain(artifact) as stream:
            for delegate in tables(program.forward, DELEGATES):
                if text(delegate, ID) != "XnnpackBackend":
                    continue
                offset, size = program.segments[number(child(delegate, PROCESSED), PLACE)]
                for key, meaning in constants(read_graph(stream, offset, size)):
                    if meant.setdefault(key, meaning) != meaning:
                        return False
    except OSError as error:
        raise FirstTokenError(f"{artifact}: cannot be read ({why(error)})") from None
    except DAMAGED as error:
        raise unreadable(artifact, error) from None
    return True


def read_graph(stream: BinaryIO, offset: int, size: int) -> Table:
    """An XNNPACK graph of the file. Raises `ValueError`."""
    magic, _, start, length = HEADER.unpack(read_at(stream, offset, HEADER.size))
    if magic != b"XH00" or start + length > size:
        raise ValueError("no XNNPACK graph")
    return root_of(read_at(stream, offset + start, length))


def constants(graph: Table) -> Iterator[tuple[str, tuple]]:
    """The names of the graph's constants, and what their bytes mean: type, shape, scales."""
    if not graph.Offset(slot(CONSTANTS)):
        return
    keys = [text(entry, KEY) if entry.Offset(slot(KEY)) else "" for entry in tables(graph, CONSTANTS)]
    for value in tables(graph, VALUES):
        kind, inside = value.GetSlot(slot(UNION), 0, Uint8Flags), child(value, INSIDE)
        tensor = child(inside, TENSOR) if kind == QUANTIZED else inside
        if place := number(tensor, CONSTANT):
            types = [tensor.GetSlot(slot(field), 0, Int8Flags) for field in (DATATYPE, RUN_TIME_TYPE)]
            yield keys[place], (kind, *types, *integers(tensor, DIMENSIONS), scales_of(inside, keys) if kind == QUANTIZED else None)


def scales_of(value: Table, keys: list[str]) -> tuple:
    """What tells scales from others: their kind, how they are laid out, and their bits or the name of their bytes."""
    kind, scales = value.GetSlot(slot(SCALING), 0, Uint8Flags), child(value, SCALES)
    if kind not in SCALE_CONSTANT:
        return kind, number(scales, 0), number(scales, 1)  # one scale's bits and its zero; or how much of the shape has a scale
    inline = tuple(integers(scales, SCALE)) if scales.Offset(slot(SCALE)) else ()  # the floats' bits
    return (
        kind,
        number(scales, CHANNEL),
        number(scales, GROUP) if kind == PER_GROUP else 0,
        inline,
        keys[number(scales, SCALE_CONSTANT[kind])],
    )
