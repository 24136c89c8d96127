"""A ring of rows: which position has which row, and what a token sees of it, against the positions written out."""

import numpy as np
import pytest

from firsttoken.backends.ring import append_rows, ring_mask
from firsttoken.backends.runner import MASKED


def held_by_hand(length, filled):
    """The position that each row of a ring holds after ``filled`` tokens, -1 for none."""
    rows = [-1] * length
    for position in range(filled):
        rows[position % length] = position
    return rows


@pytest.mark.parametrize("filled", [0, 1, 5, 9, 10, 11, 20, 33])
@pytest.mark.parametrize("window, length", [(4, 10), (10, 10), (1, 3)])
def test_a_token_sees_its_window(window, length, filled):
    asking = np.arange(filled, filled + 3)
    mask = ring_mask(window, length, length, asking, filled)
    for token, row in zip(asking, mask, strict=True):
        seen = [position >= 0 and 0 <= token - position < window for position in held_by_hand(length, filled)]
        assert (row == np.where(seen, 0, MASKED)).all()


def test_a_ring_that_is_not_passed_whole():
    assert ring_mask(4, 10, 3, np.array([3]), 3).tolist() == [[0, 0, 0]]
    assert ring_mask(4, 10, 5, np.array([3]), 3).tolist() == [[0, 0, 0, MASKED, MASKED]]


@pytest.mark.parametrize("position, count", [(0, 4), (0, 10), (0, 25), (8, 3), (9, 1), (10, 1), (37, 12), (3, 40)])
def test_rows_are_appended_where_their_positions_belong(position, count):
    length = 10
    cache = np.full((2, 1, length, 3), -1.0)
    for row, held in enumerate(held_by_hand(length, position)):
        cache[:, :, row] = held
    rows = np.arange(position, position + count + 2).reshape(1, 1, -1, 1) * np.ones((2, 1, 1, 3))  # with padding behind
    append_rows(cache, rows, position, count, length)
    assert cache[1, 0, :, 2].tolist() == held_by_hand(length, position + count)
