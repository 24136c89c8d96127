"""How much a constant of a converted file is a weight of the module: a converter folds factors of rows and columns into it (batch norms, the scale of attention),
which leaves signs and proportions."""

from enum import IntEnum

import numpy as np

TOLERANCE = 1e-4  # of a proportion; folding rounds a few times in float32
LOOKED_AT = 24  # rows of a first look


class Likeness(IntEnum):
    """From the most to the least that a constant can be like a weight."""

    EQUAL = 0
    SCALED = 1
    """By one factor."""
    ROWS = 2
    """By a factor of every row, which may be 0 or negative."""
    ROWS_AND_COLUMNS = 3
    """By one of every row and one of every column."""


def likeness(constant: np.ndarray, weight: np.ndarray) -> Likeness | None:
    """Of two matrices ``[rows, columns]``; None where neither factors of rows nor of columns make one the other."""
    if constant.shape != weight.shape or not weight.size:
        return None
    if len(weight) > 2 * LOOKED_AT:
        looked_at = np.linspace(0, len(weight) - 1, LOOKED_AT).astype(int)
        if _likeness(constant[looked_at], weight[looked_at]) is None:
            return None
    return _likeness(constant, weight)


def _likeness(constant: np.ndarray, weight: np.ndarray) -> Likeness | None:
    if np.array_equal(constant, weight):
        return Likeness.EQUAL
    there = weight != 0
    if np.any(constant[~there]) or not there.any() or not np.any(constant):
        return None
    ratio = np.divide(constant, weight, out=np.zeros(weight.shape), where=there, dtype=np.float64)
    if not np.isfinite(ratio).all():
        return None
    one = _median(np.abs(ratio[there])) * np.sign(_median(ratio[there]))
    if one and _same(ratio, np.full_like(ratio, one), there):
        return Likeness.EQUAL if abs(one - 1) <= TOLERANCE else Likeness.SCALED
    rows = _factors(ratio, there)
    if _same(ratio, np.broadcast_to(rows[:, None], ratio.shape), there):
        return Likeness.ROWS
    return Likeness.ROWS_AND_COLUMNS if _rank_one(ratio, there) else None


def _rank_one(ratio: np.ndarray, there: np.ndarray) -> bool:
    """Whether the ratios are a row's factor times a column's."""
    anchor = int(np.argmax((there & (ratio != 0)).sum(1)))  # the row that says most of the columns
    known = there[anchor] & (ratio[anchor] != 0)
    if not known.any():
        return False
    columns = np.where(known, ratio[anchor], 0.0)
    scaled = np.divide(ratio, columns[None], out=np.zeros_like(ratio), where=known[None] & there)
    rows = _factors(scaled, there & known[None])
    zeros = ~known & there.any(0)  # columns that the anchor says nothing of are all zero, or the weight is there
    return _same(ratio, rows[:, None] * columns[None], there & known[None]) and not np.any(ratio[:, zeros & there[anchor]])


def _factors(ratio: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Each row's factor: the median of its ratios that are there."""
    with np.errstate(all="ignore"):
        ordered = np.sort(np.where(there, ratio, np.inf), 1)
    middle = np.maximum(there.sum(1) - 1, 0) // 2
    found = ordered[np.arange(len(ratio)), middle]
    return np.where(np.isfinite(found), found, 0.0)


def _median(values: np.ndarray) -> float:
    return float(np.partition(values, len(values) // 2)[len(values) // 2])


def _same(got: np.ndarray, wanted: np.ndarray, there: np.ndarray) -> bool:
    return bool(np.all(np.abs(got - wanted)[there] <= TOLERANCE * np.abs(wanted)[there]))
