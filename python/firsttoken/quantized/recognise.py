"""Floats that are integers times scales: weights trained for quantization and saved unpacked, or dequantized by another library.

A group is on a lattice if one scale makes every value of it an integer, up to what the stored type rounds. What is found so is right even by chance:
the integers stand for the weights within that rounding.
"""

import numpy as np

from firsttoken.checkpoint import Checkpoint
from firsttoken.weight_source import Source, Stack

# Relative: unit roundoff of the stored value and of the group's largest, by which the scale is guessed; of float32 also what computed both.
UNITS = {"BF16": 2.1 * 2.0**-8, "F16": 2.1 * 2.0**-11, "F32": 2.0**-20}
LARGEST_UNIT = {"int4": 1e-2, "int8": 2e-3}  # bfloat16 has no more digits than an 8-bit integer: everything would look like one
STEPS = {"int4": 8, "int8": 128}  # the most that a group's largest weight may be of its scale
EMPTY = np.float32(1e-30)
SAMPLE_ROWS, BLOCK_VALUES = 8, 1 << 22


def unit_of(checkpoint: Checkpoint, source: Source, precision: str) -> float | None:
    """How far a stored value may be from its lattice, as a part of it; None where the stored type cannot show one."""
    name = source.piece(0).name if isinstance(source, Stack) else source.name
    unit = UNITS.get(checkpoint.stored(name).dtype)
    return None if unit is None or unit > LARGEST_UNIT[precision] or source.add else unit


def recognised(rows: np.ndarray, group: int, precision: str, unit: float) -> np.ndarray | None:
    """Scales float32 ``[rows, groups]``, all positive, of float32 ``[rows, columns]`` that are integers times them; None where any group is not.

    Integers reach from ``-STEPS`` to ``STEPS``: which sign the largest has is decided by who stores them.
    """
    grouped = rows.reshape(-1, group)
    largest = np.abs(grouped).max(1)
    found = np.where(largest > 0, np.float32(0), EMPTY).astype(np.float32)
    for steps in range(1, STEPS[precision] + 1):
        left = np.flatnonzero(found == 0)
        if not left.size:
            break
        values, guess = grouped[left], largest[left] / np.float32(steps)
        ratios = values / guess[:, None]
        integers = np.rint(ratios)
        fits = (np.abs(ratios - integers) <= np.abs(integers) * np.float32(unit)).all(1)
        if fits.any():
            whole = integers[fits]
            found[left[fits]] = (values[fits] * whole).sum(1) / np.square(whole).sum(1)  # least squares over the group
    return None if (found == 0).any() else found.reshape(len(rows), -1)


def is_lattice(checkpoint: Checkpoint, source: Source, shape: tuple[int, int], group: int, precision: str) -> bool:
    """Whether all of a weight of ``shape`` is on a lattice that its stored type can show. Reads few rows of one that is not."""
    unit = unit_of(checkpoint, source, precision)
    if unit is None or shape[1] % group:
        return False
    step, start, seen = SAMPLE_ROWS, 0, False
    while start < shape[0]:
        stop = min(start + step, shape[0])
        rows = checkpoint.rows(source, start, stop)
        if recognised(rows, group, precision, unit) is None:
            return False
        seen = seen or bool(rows.any())
        start, step = stop, max(1, BLOCK_VALUES // shape[1])
    return seen  # of zeros alone there is nothing to keep
