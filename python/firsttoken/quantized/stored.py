"""One weight as a quantized checkpoint stores it: integers, scales and what they are packed in, read block of rows by block of rows."""

from dataclasses import dataclass
from typing import Never

import numpy as np

from firsttoken.checkpoint import ITEM_BYTES, Checkpoint
from firsttoken.errors import FirstTokenError
from firsttoken.lattice import Lattice
from firsttoken.safe_text import visible

INTEGERS = {"I8": np.int8, "U8": np.uint8, "I32": np.int32, "I64": np.int64}
LARGEST_SIDE = 1 << 31


class Files:
    """The tensors that a weight's numbers lie in; whatever is asked of them is checked first."""

    def __init__(self, raw: Checkpoint) -> None:
        self.raw = raw

    def has(self, name: str) -> bool:
        return name in self.raw.tensors

    def shape(self, name: str, dtypes: tuple[str, ...], weight: str) -> tuple[int, ...]:
        """The shape of a tensor that is there and fills its place. Raises `FirstTokenError`."""
        tensor = self.raw.tensors.get(name)
        if tensor is None:
            self.refuse(f"weight {weight!r} is quantized, but its tensor {name!r} is missing", "download it again")
        if tensor.dtype not in dtypes:
            self.refuse(f"tensor {visible(name)!r} is stored as {visible(tensor.dtype)}", f"expected {' or '.join(dtypes)}")
        item = np.dtype(INTEGERS[tensor.dtype]).itemsize if tensor.dtype in INTEGERS else ITEM_BYTES[tensor.dtype]
        count = int(np.prod([int(n) for n in tensor.shape], dtype=object)) if tensor.shape else 1
        if tensor.length != count * item:
            self.refuse(
                f"tensor {visible(name)!r} {list(tensor.shape)} {tensor.dtype} has {tensor.length} bytes",
                f"expected {count * item}, the file is corrupted",
            )
        return tensor.shape

    def need(self, name: str, dtypes: tuple[str, ...], weight: str, shape: tuple[int, ...]) -> None:
        """Raises `FirstTokenError` where the tensor has another shape."""
        if (got := self.shape(name, dtypes, weight)) != shape:
            self.refuse(f"tensor {visible(name)!r} is {list(got)}", f"expected {list(shape)}, as the other tensors of {weight!r} say")

    def integers(self, name: str, start: int, stop: int, columns: slice | None = None) -> np.ndarray:
        """Rows ``start:stop`` of an integer tensor ``[rows, n]``, of each only ``columns``, without reading the others."""
        tensor = self.raw.tensors[name]
        dtype = np.dtype(INTEGERS[tensor.dtype])
        width = tensor.row_length
        if columns is None:
            raw = self.raw._read_whole(name, tensor, start * width * dtype.itemsize, (stop - start) * width * dtype.itemsize)
            return np.frombuffer(raw, dtype).reshape(stop - start, width)
        found = np.empty((stop - start, columns.stop - columns.start), dtype)
        for row in range(start, stop):
            offset = (row * width + columns.start) * dtype.itemsize
            found[row - start] = np.frombuffer(self.raw._read_whole(name, tensor, offset, found.shape[1] * dtype.itemsize), dtype)
        return found

    def refuse(self, what: str, then: str) -> Never:
        raise FirstTokenError(f"checkpoint {self.raw.folder}: {what}; {then}")


def unpack(words: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The first ``count`` unsigned numbers of ``bits`` (4 or 8) in each row of int32 ``[rows, n]``, the lowest bits first, as int16."""
    parts = np.ascontiguousarray(words).astype("<i4", copy=False).view(np.uint8)
    if bits == 4:
        parts = np.stack((parts & 15, parts >> 4), axis=-1).reshape(len(words), 2 * parts.shape[1])
    return parts[:, :count].astype(np.int16)


@dataclass
class StoredWeight:
    """A weight ``[rows, columns]``: integers of ``bits``, one scale for every ``group`` columns, and where its format has them, zero points and
    the group of each column. ``lost`` says why that is no lattice that a kernel could keep; empty where it is."""

    files: Files
    name: str
    shape: tuple[int, int]
    bits: int
    group: int
    form: str
    lost: str = ""
    column_groups: np.ndarray | None = None  # of each column, where they do not come one after the other

    @property
    def lattice(self) -> Lattice | None:
        if self.lost:
            return None
        return Lattice(f"int{self.bits}", None if self.group == self.shape[1] else self.group, self.form)

    @property
    def groups(self) -> int:
        return self.shape[1] // self.group

    def integers(self, start: int, stop: int) -> np.ndarray:
        """int16 ``[stop - start, columns]``, without zero points, around 0."""
        raise NotImplementedError

    def scales(self, start: int, stop: int) -> np.ndarray:
        """float32 ``[stop - start, groups]``."""
        raise NotImplementedError

    def zeros(self, start: int, stop: int) -> np.ndarray | None:
        """int16 ``[stop - start, groups]``, around 0; None where all are 0."""
        return None

    def rows(self, start: int, stop: int) -> np.ndarray:
        """What they stand for, float32 ``[stop - start, columns]``."""
        values, scales, zeros = self.integers(start, stop), self.scales(start, stop), self.zeros(start, stop)
        if self.column_groups is not None:
            values = values if zeros is None else values - zeros[:, self.column_groups]
            return values.astype(np.float32) * scales[:, self.column_groups]
        grouped = values.reshape(stop - start, self.groups, self.group)
        grouped = grouped if zeros is None else grouped - zeros[:, :, None]
        return (grouped.astype(np.float32) * scales[:, :, None]).reshape(stop - start, self.shape[1])


def groups_of_columns(files: Files, name: str, weight: str, columns: int, groups: int, group: int) -> np.ndarray | None:
    """Reads ``g_idx``: None where columns lie in their groups in order, else the group of each. Raises `FirstTokenError`."""
    files.need(name, ("I32", "I64"), weight, (columns,))
    found = files.integers(name, 0, columns).reshape(-1).astype(np.int64)
    if (found == -1).all():  # compressed-tensors' mark for "not set"
        return None
    if found.size and (found.min() < 0 or found.max() >= groups):
        bad = int(found.min()) if found.min() < 0 else int(found.max())
        files.refuse(f"tensor {visible(name)!r} puts a column into group {bad}", f"expected 0 to {groups - 1}, the file is corrupted")
    return None if np.array_equal(found, np.arange(columns) // group) else found
