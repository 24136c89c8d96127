"""Choosing tokens: greedy, drawn, and never a padded one."""

import numpy as np
import pytest

from firsttoken.errors import FirstTokenError
from firsttoken.run.sampling import Sampler


def test_temperature_zero_takes_the_most_likely():
    assert Sampler(5).pick(np.array([0.0, 3.0, -1.0, 2.0, 1.0], np.float32)) == 1


def test_padded_tokens_are_never_picked():
    logits = np.array([0.0, 1.0, 0.5, 100.0, np.nan], np.float32)
    assert Sampler(3).pick(logits) == 1
    drawn = Sampler(3, temperature=5.0)
    assert {drawn.pick(logits) for _ in range(200)} == {0, 1, 2}


def test_the_same_seed_draws_the_same_tokens():
    logits = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    one, other, third = (Sampler(50, 1.0, seed) for seed in (7, 7, 8))
    first = [one.pick(logits) for _ in range(40)]
    assert first == [other.pick(logits) for _ in range(40)] != [third.pick(logits) for _ in range(40)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_the_softmax(temperature):
    logits = np.array([1.0, 0.0, 2.0, -1.0], np.float32)
    sampler = Sampler(4, temperature, 1)
    count = np.bincount([sampler.pick(logits) for _ in range(20_000)], minlength=4) / 20_000
    expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    assert np.abs(count - expected).max() < 0.015


def test_extreme_logits_and_temperatures():
    logits = np.array([3e38, -3e38, 0.0], np.float32)
    assert all(Sampler(3, temperature, 0).pick(logits) == 0 for temperature in (0.0, 1e-6, 1.0))
    assert Sampler(1, 1.0).pick(np.array([5.0], np.float32)) == 0


def test_what_cannot_be():
    for temperature in (-1.0, float("nan"), float("inf")):
        with pytest.raises(FirstTokenError, match="temperature"):
            Sampler(5, temperature)
    with pytest.raises(FirstTokenError, match="seed"):
        Sampler(5, 1.0, -1)
    for bad in (np.nan, np.inf):
        with pytest.raises(FirstTokenError, match="not numbers"):
            Sampler(2).pick(np.array([0.0, bad], np.float32))
