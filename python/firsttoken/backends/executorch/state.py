"""Where a program keeps what it remembers between calls: its own buffers, as views into the memory that the runtime planned for it.

The program's flatbuffer says it (schema/program.fbs of ExecuTorch, whose numbers of fields never change). It is read here with little more than the
flatbuffers package: ExecuTorch's reader imports the whole exporter, which takes seconds.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from flatbuffers.number_types import Int8Flags, Int32Flags, Uint8Flags, Uint32Flags
from flatbuffers.table import Table

from firsttoken.bundle.manifest import State
from firsttoken.errors import FirstTokenError
from firsttoken.plain_file import open_plain, why

MOST_BYTES = 256 << 20  # of a program without its weights
HEADER = struct.Struct("<4x4s4sIQ")  # identifier, magic, header's length, program's size
PLANS, NAME, VALUES, INPUTS = 1, 0, 2, 3  # fields of Program and ExecutionPlan
KIND, VALUE, TENSOR = 0, 1, 5  # of EValue, and the number of Tensor among its kinds
SCALAR_TYPE, SIZES, ALLOCATION = 0, 2, 6  # of Tensor
MEMORY, LOW, HIGH = 0, 1, 2  # of AllocationDetails
DTYPES: dict[int, np.dtype] = {5: np.dtype(np.float16), 6: np.dtype(np.float32)}  # ScalarType


@dataclass(frozen=True)
class Buffer:
    """A buffer of the program: in the memory of number ``arena``, from ``offset`` bytes on."""

    dtype: np.dtype
    shape: tuple[int, ...]
    arena: int
    offset: int


def names(state: State) -> list[str]:
    """The tensors of a state, as `bundle.manifest.State` calls them, in the order in which a module has them."""
    return [f"{kind}.{state.layer}" for kind in (("key", "value") if state.kind == "key_value" else (state.kind,))]


def state_arrays(artifact: Path, states: Sequence[State], arena: Callable[[int], np.ndarray]) -> dict[str, np.ndarray]:
    """What the program remembers, whole, by name; ``arena`` gives its memory, uint8. Raises `FirstTokenError` where the program and ``states`` differ."""
    found, wanted = program_buffers(artifact), [(name, state) for state in states for name in names(state)]
    said = [(buffer.dtype.name, list(buffer.shape)) for buffer in found]
    if said != [(state.dtype, state.shape) for _, state in wanted]:
        raise FirstTokenError(f"{artifact}: its program has other buffers than the manifest says; export it again")
    arrays = {}
    for (name, _), buffer in zip(wanted, found, strict=True):
        memory, size = arena(buffer.arena), prod(buffer.shape) * buffer.dtype.itemsize
        if buffer.offset + size > len(memory):
            raise FirstTokenError(f"{artifact}: buffer {name} lies outside of the program's memory; export it again")
        arrays[name] = memory[buffer.offset : buffer.offset + size].view(buffer.dtype).reshape(buffer.shape)
    return arrays


def program_buffers(artifact: Path) -> list[Buffer]:
    """The buffers that ``forward`` changes, in the module's order. Raises `FirstTokenError` for what is no .pte."""
    try:
        with open_plain(artifact) as stream:
            magic, _, size = HEADER.unpack(stream.read(HEADER.size))[1:]
            if not magic.startswith(b"eh") or size > MOST_BYTES:
                raise ValueError("no ExecuTorch header")
            stream.seek(0)
            content = stream.read(size)
        return list_buffers(content)
    except OSError as error:
        raise FirstTokenError(f"{artifact}: cannot be read ({why(error)})") from None
    except (ValueError, TypeError, IndexError, struct.error, UnicodeDecodeError, OverflowError) as error:
        raise FirstTokenError(f"{artifact}: not a .pte whose buffers can be read ({type(error).__name__}); export it again") from None


def list_buffers(content: bytes) -> list[Buffer]:
    program = Table(content, struct.unpack_from("<I", content)[0])
    plan = next((plan for plan in tables(program, PLANS) if text(plan, NAME) == "forward"), None)
    if plan is None:
        raise ValueError("no method forward")
    values = tables(plan, VALUES)
    buffers = []
    # Parameters and buffers stand before the inputs; of these, only what the program changes lies in planned memory.
    for value in values[: min(integers(plan, INPUTS))]:
        if value.GetSlot(slot(KIND), 0, Uint8Flags) != TENSOR:
            continue
        tensor = child(value, VALUE)
        if not tensor.Offset(slot(ALLOCATION)):
            continue
        place = child(tensor, ALLOCATION)
        memory, low, high = (place.GetSlot(slot(field), 0, Uint32Flags) for field in (MEMORY, LOW, HIGH))
        dtype = DTYPES.get(tensor.GetSlot(slot(SCALAR_TYPE), 0, Int8Flags))
        shape = tuple(integers(tensor, SIZES))
        if dtype is None or not memory or min(shape, default=0) < 1:
            raise ValueError("a buffer of another form")
        buffers.append(Buffer(dtype, shape, memory - 1, low | high << 32))
    return buffers


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


def fitting(table: Table, length: int) -> int:
    """The length, if a vector of 32-bit values so long can be there. Raises `ValueError`."""
    if 4 * length > len(table.Bytes):
        raise ValueError("a vector is longer than the file")
    return length
