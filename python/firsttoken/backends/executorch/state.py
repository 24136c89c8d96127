"""Where a program keeps what it remembers between calls: its own buffers, as views into the memory that the runtime planned for it.

The program's flatbuffer says where (schema/program.fbs of ExecuTorch).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from flatbuffers.number_types import Int8Flags, Uint8Flags
from flatbuffers.table import Table

from firsttoken.backends.executorch.flatbuffer import DAMAGED, child, integers, number, read_program, slot, tables, unreadable
from firsttoken.bundle.manifest import State
from firsttoken.errors import FirstTokenError

VALUES, INPUTS = 2, 3  # fields of ExecutionPlan
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
    plan = read_program(artifact).forward
    try:
        values = tables(plan, VALUES)
        # Parameters and buffers stand before the inputs; of these, only what the program changes lies in planned memory.
        tensors = [
            child(value, VALUE) for value in values[: min(integers(plan, INPUTS))] if value.GetSlot(slot(KIND), 0, Uint8Flags) == TENSOR
        ]
        return [buffer_of(tensor) for tensor in tensors if tensor.Offset(slot(ALLOCATION))]
    except DAMAGED as error:
        raise unreadable(artifact, error) from None


def buffer_of(tensor: Table) -> Buffer:
    """A tensor in planned memory. Raises `ValueError` for one of another form."""
    place = child(tensor, ALLOCATION)
    memory, low, high = (number(place, field) for field in (MEMORY, LOW, HIGH))
    dtype, shape = DTYPES.get(tensor.GetSlot(slot(SCALAR_TYPE), 0, Int8Flags)), tuple(integers(tensor, SIZES))
    if dtype is None or not memory or min(shape, default=0) < 1:
        raise ValueError("a buffer of another form")
    return Buffer(dtype, shape, memory - 1, low | high << 32)
