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


def filtered(weights, **filters):
    """The tokens that are left of those with these weights, at temperature 1."""
    left = Sampler(len(weights), 1.0, **filters).weights(np.log(np.array(weights)).astype(np.float32))
    return [token for token, weight in enumerate(left) if weight > 0]


def test_each_filter_leaves_what_it_says_and_ties():
    weights = [0.1, 0.4, 0.25, 0.05, 0.2]
    assert filtered(weights) == [0, 1, 2, 3, 4]
    assert filtered(weights, top_k=2) == [1, 2] and filtered(weights, top_k=5) == filtered(weights, top_k=9) == [0, 1, 2, 3, 4]
    assert filtered(weights, top_p=0.3) == [1] and filtered(weights, top_p=0.6) == [1, 2] and filtered(weights, top_p=0.7) == [1, 2, 4]
    assert filtered(weights, min_p=0.4) == [1, 2, 4] and filtered(weights, min_p=1.0) == [1]
    assert filtered([0.2, 0.4, 0.2, 0.2], top_k=2) == [0, 1, 2, 3], "as likely as the last of them"
    assert filtered([0.2, 0.4, 0.2, 0.2], top_p=0.5) == [0, 1, 2, 3]


def test_the_order_is_top_k_then_top_p_then_min_p():
    weights = [0.4, 0.3, 0.2, 0.1]
    assert filtered(weights, top_k=2, top_p=0.6) == [0, 1], "of the 0.7 that are left 0.42 are asked for, which the first alone has not"
    assert filtered(weights, top_p=0.6) == [0, 1] and filtered(weights, top_k=2, top_p=0.5) == [0]
    assert filtered(weights, top_p=0.65, min_p=0.7) == [0, 1] and filtered(weights, top_k=1, min_p=0.1) == [0]


def test_what_is_filtered_out_is_never_drawn_and_the_rest_as_often_as_before():
    logits = np.log(np.array([0.1, 0.4, 0.25, 0.05, 0.2])).astype(np.float32)
    sampler = Sampler(5, 1.0, 3, top_k=4, top_p=0.8, min_p=0.1)
    count = np.bincount([sampler.pick(logits) for _ in range(20_000)], minlength=5) / 20_000
    assert np.abs(count - np.array([0, 0.4, 0.25, 0, 0.2]) / 0.85).max() < 0.015


def test_filters_that_cannot_be():
    for name, bad in (("top_k", -1), ("top_p", 0.0), ("top_p", 1.1), ("top_p", float("nan")), ("min_p", -0.1), ("min_p", float("nan"))):
        with pytest.raises(FirstTokenError, match=name.replace("_", "-")):
            Sampler(5, 1.0, **{name: bad})


def test_what_cannot_be():
    for temperature in (-1.0, float("nan"), float("inf")):
        with pytest.raises(FirstTokenError, match="temperature"):
            Sampler(5, temperature)
    with pytest.raises(FirstTokenError, match="seed"):
        Sampler(5, 1.0, -1)
    for bad in (np.nan, np.inf):
        with pytest.raises(FirstTokenError, match="not numbers"):
            Sampler(2).pick(np.array([0.0, bad], np.float32))
