"""Reading a .pte's flatbuffers by the numbers of their fields, which never change, with little more than the flatbuffers package.

ExecuTorch's own readers import the whole exporter, which takes seconds; a start has not got them. Whatever does not hang together is one of `DAMAGED`.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flatbuffers.number_types import Int32Flags, Uint32Flags, Uint64Flags
from flatbuffers.table import Table

from firsttoken.errors import FirstTokenError
from firsttoken.plain_file import open_plain, why

DAMAGED = (ValueError, TypeError, IndexError, struct.error, OverflowError)  # a UnicodeDecodeError is a ValueError
MOST_BYTES = 256 << 20  # of a program or graph without its weights
HEADER = struct.Struct("<8s4sIQQ")  # the flatbuffer's beginning, magic, header's length, program's size, where segments begin
PLANS, SEGMENTS, NAME = 1, 4, 0  # fields of Program and ExecutionPlan
OFFSET, SIZE = 0, 1  # of DataSegment


@dataclass(frozen=True)
class Program:
    """A .pte without its weights: the method ``forward``, and where its segments lie in the file, ``(offset, size)`` in bytes."""

    forward: Table
    segments: list[tuple[int, int]]


def read_program(artifact: Path) -> Program:
    """Raises `FirstTokenError` for what cannot be read or is no .pte."""
    try:
        with open_plain(artifact) as stream:
            _, magic, _, size, base = HEADER.unpack(stream.read(HEADER.size))
            if not magic.startswith(b"eh"):
                raise ValueError("no ExecuTorch header")
            root = root_of(read_at(stream, 0, size))
        plan = next((plan for plan in tables(root, PLANS) if text(plan, NAME) == "forward"), None)
        if plan is None:
            raise ValueError("no method forward")
        found = tables(root, SEGMENTS) if root.Offset(slot(SEGMENTS)) else []
        return Program(
            plan, [(base + part.GetSlot(slot(OFFSET), 0, Uint64Flags), part.GetSlot(slot(SIZE), 0, Uint64Flags)) for part in found]
        )
    except OSError as error:
        raise FirstTokenError(f"{artifact}: cannot be read ({why(error)})") from None
    except DAMAGED as error:
        raise unreadable(artifact, error) from None


def unreadable(artifact: Path, error: Exception) -> FirstTokenError:
    return FirstTokenError(f"{artifact}: not a .pte that this firsttoken can read ({type(error).__name__}); export it again")


def read_at(stream: BinaryIO, offset: int, size: int) -> bytes:
    """Raises `ValueError` where the file is shorter, or so much is never needed."""
    if size > MOST_BYTES:
        raise ValueError("too large")
    stream.seek(offset)
    content = stream.read(size)
    if len(content) < size:
        raise ValueError("cut short")
    return content


def root_of(content: bytes) -> Table:
    return Table(content, struct.unpack_from("<I", content)[0])


def slot(field: int) -> int:
    """Where a table's vtable has a field of this number."""
    return 4 + 2 * field


def present(table: Table, field: int) -> int:
    """Where the field lies. Raises `ValueError` where there is none."""
    offset = table.Offset(slot(field))
    if not offset:
        raise ValueError("a field is missing")
    return offset


def child(table: Table, field: int) -> Table:
    return Table(table.Bytes, table.Indirect(table.Pos + present(table, field)))


def text(table: Table, field: int) -> str:
    return table.String(table.Pos + present(table, field)).decode()


def tables(table: Table, field: int) -> list[Table]:
    offset = present(table, field)
    start, length = table.Vector(offset), table.VectorLen(offset)
    return [Table(table.Bytes, table.Indirect(start + 4 * place)) for place in range(fitting(table, length))]


def integers(table: Table, field: int) -> list[int]:
    offset = present(table, field)
    start, length = table.Vector(offset), table.VectorLen(offset)
    return [table.Get(Int32Flags, start + 4 * place) for place in range(fitting(table, length))]


def number(table: Table, field: int) -> int:
    """An unsigned number of 32 bits, 0 where it is left out."""
    return int(table.GetSlot(slot(field), 0, Uint32Flags))


def fitting(table: Table, length: int) -> int:
    """The length, if a vector of 32-bit values so long can be there. Raises `ValueError`."""
    if 4 * length > len(table.Bytes):
        raise ValueError("a vector is longer than the file")
    return length
