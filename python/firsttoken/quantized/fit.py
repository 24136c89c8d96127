"""Scales as kernels hold them, for weights that are on a lattice already: positive, and rounded to what the file stores."""

import numpy as np

from firsttoken.lattice import bounds, storable

# Of the stored scale, tried where a group's integers do not fit: Q4_0's scale may be negative, then its largest weight is 8 of them.
FACTORS = tuple(0.9 + 0.01 * n for n in range(31))


def fitted(rows: np.ndarray, scales: np.ndarray, precision: str, grouped: bool) -> tuple[np.ndarray, np.ndarray]:
    """Scales float32 ``[rows, groups]`` to store for float32 ``rows`` ``[rows, columns]`` that are integers times ``scales``, which may be negative; and which
    groups lose something by it, bool ``[rows, groups]``.

    A negative scale is turned by negating its integers, which is exact as long as none is the lowest: that one's opposite has no
    place. There the scale with the least squared error is taken. A row with the int8 integer -128 more than once is rounded anew, to -127:
    kernels for ARM cores without dot products add two products in 16 bits, which two of -128 times -128 run over.
    """
    magnitudes = np.abs(scales)
    found = storable(magnitudes, grouped)
    values = rows.reshape(*scales.shape, -1)
    low, high = bounds(precision)
    inexact = np.rint(values.max(2) / found) > high
    if precision == "int8":
        twice = (np.rint(values / found[:, :, None]) == low).sum(2) > 1
        found[twice] *= np.float32(128 / 127)
        return found, twice | inexact
    if inexact.any():
        found[inexact] = _least_error(values[inexact], magnitudes[inexact], precision, grouped)
    return found, inexact


def _least_error(values: np.ndarray, magnitudes: np.ndarray, precision: str, grouped: bool) -> np.ndarray:
    """The best of `FACTORS` for each group of ``values`` ``[groups, columns]``."""
    low, high = bounds(precision)
    best, least = storable(magnitudes, grouped), np.full(len(values), np.inf)
    for factor in FACTORS:
        scales = storable(magnitudes * np.float32(factor), grouped)
        rounded = np.clip(np.rint(values / scales[:, None]), low, high) * scales[:, None]
        error = np.square(rounded - values).sum(1)
        best, least = np.where(error < least, scales, best), np.minimum(error, least)
    return best
