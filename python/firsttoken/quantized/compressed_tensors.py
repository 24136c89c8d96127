"""Weights of compressed-tensors: ``weight_packed`` int32 (pack-quantized) or ``weight`` int8 (int-quantized), with ``weight_scale``.

Format: https://github.com/vllm-project/compressed-tensors, ``compressors/pack_quantized``: integers plus half their range, the lowest bits first.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from firsttoken.checkpoint import ITEM_BYTES
from firsttoken.quantized.scheme import CompressedTensors, Weights
from firsttoken.quantized.stored import LARGEST_SIDE, Files, StoredWeight, groups_of_columns, unpack

FORM = "compressed-tensors"
FLOATS = tuple(ITEM_BYTES)


@dataclass
class Packed(StoredWeight):
    """``stem`` is the weight's name; its tensors are that with ``_packed``, ``_scale``, ``_zero_point``. ``per_tensor``: one scale for all rows."""

    per_tensor: bool = False
    shifted: bool = False

    def integers(self, start: int, stop: int) -> np.ndarray:
        words = self.files.integers(f"{self.name}_packed", start, stop)
        return unpack(words, self.bits, self.shape[1]) - np.int16(1 << (self.bits - 1))

    def scales(self, start: int, stop: int) -> np.ndarray:
        if self.per_tensor:
            return np.broadcast_to(self.files.raw.rows(f"{self.name}_scale").reshape(1, 1), (stop - start, 1)).copy()
        return self.files.raw.rows(f"{self.name}_scale", start, stop)

    def zeros(self, start: int, stop: int) -> np.ndarray | None:
        if not self.shifted:
            return None
        each = 32 // self.bits  # packed along the rows
        begin, end = start // each, -(-stop // each)
        words = self.files.integers(f"{self.name}_zero_point", begin, end)
        values = unpack(words.T, self.bits, (end - begin) * each).T - np.int16(1 << (self.bits - 1))
        return values[start - begin * each : stop - begin * each]


@dataclass
class Plain(Packed):
    """int-quantized: ``weight`` holds the int8 integers themselves, also of 4 bits."""

    def integers(self, start: int, stop: int) -> np.ndarray:
        return self.files.integers(self.name, start, stop).astype(np.int16)

    def zeros(self, start: int, stop: int) -> np.ndarray | None:
        if not self.shifted:
            return None
        return self.files.integers(f"{self.name}_zero_point", start, stop).astype(np.int16)


def stored_weights(files: Files, scheme: CompressedTensors) -> Iterator[StoredWeight]:
    """Every weight that is stored as integers, checked. Raises `FirstTokenError` naming the tensor, what it is and what was expected."""
    for name, tensor in files.raw.tensors.items():
        if name.endswith(".weight_packed"):
            yield _packed(files, name.removesuffix("_packed"), scheme)
        elif name.endswith(".weight") and tensor.dtype == "I8":
            yield _plain(files, name, scheme)


def own_tensors(name: str) -> tuple[str, ...]:
    """The names of the tensors that ``name`` is read from, and of those that say how activations were rounded."""
    stem = name.removesuffix("weight")
    return (
        *(f"{name}{end}" for end in ("_packed", "_scale", "_shape", "_zero_point", "_g_idx")),
        *(f"{stem}{side}_{what}" for side in ("input", "output") for what in ("scale", "zero_point")),
    )


def _packed(files: Files, name: str, scheme: CompressedTensors) -> Packed:
    packed = files.shape(f"{name}_packed", ("I32",), name)
    files.need(f"{name}_shape", ("I32", "I64"), name, (2,))
    rows, columns = (int(n) for n in files.integers(f"{name}_shape", 0, 2).reshape(-1))
    if not (0 < rows < LARGEST_SIDE and 0 < columns < LARGEST_SIDE):
        files.refuse(f"tensor {name + '_shape'!r} says [{rows}, {columns}]", "expected the rows and columns of a weight")
    fitting = [one for one in scheme.weights if packed == (rows, -(-columns * one.num_bits // 32))]
    if not fitting:
        bits = sorted({one.num_bits for one in scheme.weights})
        files.refuse(
            f"tensor {name + '_packed'!r} is {list(packed)}, and {name + '_shape'!r} says [{rows}, {columns}]",
            f"expected {' or '.join(str([rows, -(-columns * n // 32)]) for n in bits)}, as {bits} bits in config.json ask; the file is corrupted",
        )
    return _weight(Packed, files, name, (rows, columns), fitting)


def _plain(files: Files, name: str, scheme: CompressedTensors) -> Packed:
    shape = files.shape(name, ("I8",), name)
    if len(shape) != 2:
        files.refuse(f"tensor {name!r} is {list(shape)}", "expected a matrix")
    return _weight(Plain, files, name, (shape[0], shape[1]), scheme.weights)


def _weight(kind: type[Packed], files: Files, name: str, shape: tuple[int, int], said: list[Weights]) -> Packed:
    rows, columns = shape
    scale = files.shape(f"{name}_scale", FLOATS, name)
    per_tensor = scale in ((), (1,), (1, 1)) and any(one.strategy == "tensor" for one in said)
    groups = 1 if per_tensor or scale == (rows,) else scale[1] if len(scale) == 2 else 0
    if not per_tensor and (not groups or scale[0] != rows or columns % groups):
        files.refuse(f"tensor {name + '_scale'!r} is {list(scale)}", f"expected [{rows}, groups that divide {columns} columns]")
    group = columns // groups
    fitting = [one for one in said if (one.group or columns) == group]
    if not fitting:
        asked = ", ".join(sorted({f"one for {one.group} columns" if one.group else "one a row" for one in said}))
        files.refuse(f"tensor {name + '_scale'!r} is {list(scale)}, one scale for {group} columns", f"config.json says {asked}")
    shifted = not fitting[0].symmetric
    lost = "zero points" if shifted else ""
    found = kind(files, name, shape, fitting[0].num_bits, group, FORM, lost, per_tensor=per_tensor, shifted=shifted)
    if shifted:
        each = 32 // found.bits
        packed = kind is Packed
        files.need(f"{name}_zero_point", ("I32",) if packed else ("I8",), name, (-(-rows // each) if packed else rows, groups))
    if files.has(f"{name}_g_idx"):
        found.column_groups = groups_of_columns(files, f"{name}_g_idx", name, columns, groups, group)
        if found.column_groups is not None:
            found.lost = "columns in the order of their activations (actorder)"
    return found
