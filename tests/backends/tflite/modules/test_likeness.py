"""How much a constant is a weight: what folding does to weights, and weights that only look alike."""

import numpy as np
import pytest

from firsttoken.backends.tflite.modules.likeness import Likeness, likeness


@pytest.fixture
def weight() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((60, 20), np.float32)


def test_what_converters_fold(weight):
    generator = np.random.default_rng(1)
    rows, columns = generator.uniform(0.2, 3, (60, 1)).astype(np.float32), generator.uniform(0.2, 3, 20).astype(np.float32)
    assert likeness(weight, weight) == Likeness.EQUAL
    assert likeness(weight * np.float32(0.25), weight) == Likeness.SCALED
    assert likeness(weight * rows, weight) == Likeness.ROWS
    assert likeness(weight * columns, weight) == Likeness.ROWS_AND_COLUMNS
    assert likeness(weight * rows * columns, weight) == Likeness.ROWS_AND_COLUMNS


def test_factors_of_both_signs_and_of_zero(weight):
    rows = np.random.default_rng(1).standard_normal((60, 1)).astype(np.float32)
    rows[[0, 7]] = 0
    assert likeness(weight * rows, weight) == Likeness.ROWS
    columns = np.random.default_rng(2).standard_normal(20).astype(np.float32)
    assert likeness(weight * rows * columns, weight) == Likeness.ROWS_AND_COLUMNS


def test_weights_with_zeros(weight):
    pruned = np.where(np.abs(weight) < 0.5, 0, weight)
    assert likeness(pruned * np.float32(2), pruned) == Likeness.SCALED
    assert likeness(weight, pruned) is None


def test_others_are_not_alike(weight):
    other = np.random.default_rng(3).standard_normal((60, 20), np.float32)
    assert likeness(other, weight) is None
    assert likeness(np.abs(other), np.abs(weight)) is None  # equal signs are not enough
    assert likeness(np.zeros_like(weight), weight) is None
    assert likeness(weight[:, ::-1], weight) is None
    assert likeness(weight.T, weight) is None
    moved = weight.copy()
    moved[13, 4] *= 1.01
    assert likeness(moved, weight) is None


def test_a_row_among_many_that_is_another(weight):
    moved = np.concatenate([weight] * 20)
    wrong = moved.copy()
    wrong[601] = wrong[601, ::-1]
    assert likeness(moved, moved) == Likeness.EQUAL
    assert likeness(wrong, moved) is None
