"""A lattice: weights that are integers times scales already, and what kernels can hold of it."""

from dataclasses import dataclass

import numpy as np

SMALLEST_INT4_SCALE = np.float32(6e-8)  # the smallest float16 above zero


@dataclass(frozen=True)
class Lattice:
    """Integers of ``precision`` times scales, one for every ``group`` columns of a row, or one for the row (None); ``form`` names where it is from."""

    precision: str
    group: int | None
    form: str

    def group_of(self, columns: int) -> int:
        """How many columns of a row of ``columns`` share a scale."""
        return columns if self.group is None else self.group

    def __str__(self) -> str:
        return f"{self.form}: {self.precision} {'rows' if self.group is None else f'in groups of {self.group}'}"


def bounds(precision: str) -> tuple[int, int]:
    """The integers that stored weights may have in kernels: of int8 also the lowest, which rounding leaves out."""
    return (-8, 7) if precision == "int4" else (-128, 127)


def storable(scales: np.ndarray, grouped: bool) -> np.ndarray:
    """Positive scales float32 as kernels hold them: of int4 groups bfloat16 (XNNPACK) that float16 holds too (.tflite), of rows float32."""
    if not grouped:
        return scales.astype(np.float32)
    bits = np.ascontiguousarray(scales, np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.maximum(rounded.astype(np.float16).astype(np.float32), SMALLEST_INT4_SCALE)
