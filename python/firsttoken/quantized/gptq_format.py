"""Weights in the format of AutoGPTQ and GPTQModel: ``qweight``, ``qzeros``, ``scales``, ``g_idx`` beside each other.

``qweight`` int32 ``[columns * bits / 32, rows]`` and ``qzeros`` int32 ``[groups, rows * bits / 32]``, the lowest bits first; ``scales`` ``[groups, rows]``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from firsttoken.quantized.compressed_tensors import FLOATS
from firsttoken.quantized.scheme import Gptq
from firsttoken.quantized.stored import Files, StoredWeight, groups_of_columns, unpack

FORM = "GPTQ"


@dataclass
class GptqWeight(StoredWeight):
    """Integers lie column by column: of every stored row only the part of the rows that are asked for is read."""

    zero_offset: int = 1
    shifted: bool = False

    @property
    def stem(self) -> str:
        return self.name.removesuffix("weight")

    @property
    def middle(self) -> int:
        return 1 << (self.bits - 1)

    def integers(self, start: int, stop: int) -> np.ndarray:
        words = self.files.integers(f"{self.stem}qweight", 0, self.shape[1] * self.bits // 32, slice(start, stop))
        return unpack(words.T, self.bits, self.shape[1]) - np.int16(self.middle)

    def scales(self, start: int, stop: int) -> np.ndarray:
        return np.ascontiguousarray(self.files.raw.rows(f"{self.stem}scales")[:, start:stop].T)

    def zeros(self, start: int, stop: int) -> np.ndarray | None:
        return self.all_zeros()[start:stop] if self.shifted else None

    def all_zeros(self) -> np.ndarray:
        """Zero points int16 ``[rows, groups]``, around 0; a stored one that is the largest number stands for 0 where one less is stored."""
        words = self.files.integers(f"{self.stem}qzeros", 0, self.groups)
        stored = unpack(words, self.bits, self.shape[0]).T
        return ((stored + np.int16(self.zero_offset)) & np.int16(2 * self.middle - 1)) - np.int16(self.middle)


def stored_weights(files: Files, scheme: Gptq) -> Iterator[StoredWeight]:
    """Every weight that is stored as integers, checked. Raises `FirstTokenError` naming the tensor, what it is and what was expected."""
    for name in files.raw.tensors:
        if name.endswith(".qweight"):
            yield _weight(files, f"{name.removesuffix('qweight')}weight", scheme)


def own_tensors(name: str) -> tuple[str, ...]:
    """The names of the tensors that the weight ``name`` is read from."""
    stem = name.removesuffix("weight")
    return tuple(f"{stem}{what}" for what in ("qweight", "qzeros", "scales", "g_idx"))


def _weight(files: Files, name: str, scheme: Gptq) -> GptqWeight:
    stem, bits = name.removesuffix("weight"), scheme.bits
    packed = files.shape(f"{stem}qweight", ("I32",), name)
    if len(packed) != 2 or not all(packed):
        files.refuse(f"tensor {stem + 'qweight'!r} is {list(packed)}", "expected a matrix")
    rows, columns = packed[1], packed[0] * 32 // bits
    group = scheme.group or columns
    if columns % group or rows * bits % 32:
        files.refuse(
            f"tensor {stem + 'qweight'!r} is {list(packed)}, a weight of [{rows}, {columns}] in {bits} bits",
            f"expected rows in multiples of {32 // bits} and columns that divide into groups of {group}, as config.json says",
        )
    groups = columns // group
    files.need(f"{stem}scales", FLOATS, name, (groups, rows))
    files.need(f"{stem}qzeros", ("I32",), name, (groups, rows * bits // 32))
    found = GptqWeight(files, name, (rows, columns), bits, group, FORM, zero_offset=scheme.zero_offset)
    if found.all_zeros().any():
        found.shifted, found.lost = True, "zero points"
    if files.has(f"{stem}g_idx"):
        found.column_groups = groups_of_columns(files, f"{stem}g_idx", name, columns, groups, group)
    if found.column_groups is not None:
        found.lost = "columns in the order of their activations (act-order)"
    return found
