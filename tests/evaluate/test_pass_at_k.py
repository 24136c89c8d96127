"""The estimator against every choice of k answers, and against what it estimates."""

from itertools import combinations

import numpy as np
import pytest
from scipy.special import comb

from firsttoken.errors import FirstTokenError
from firsttoken.evaluate.pass_at_k import check_ks, pass_at_k


@pytest.mark.parametrize("samples", [1, 2, 5, 8])
def test_it_is_the_share_of_choices_with_a_right_one(samples):
    for right in range(samples + 1):
        answers = [number < right for number in range(samples)]
        for k in range(1, samples + 1):
            chosen = [any(choice) for choice in combinations(answers, k)]
            assert pass_at_k(samples, right, k) == pytest.approx(np.mean(chosen), abs=1e-12)


def test_many_samples_are_scipys():
    for right in (0, 1, 37, 199, 200):
        for k in (1, 10, 100, 200):
            assert pass_at_k(200, right, k) == pytest.approx(1 - comb(200 - right, k) / comb(200, k), abs=1e-9)


def test_it_is_unbiased():
    random, p, n, k = np.random.default_rng(0), 0.2, 6, 3
    estimates = [pass_at_k(n, int(right), k) for right in random.binomial(n, p, 20_000)]
    assert np.mean(estimates) == pytest.approx(1 - (1 - p) ** k, abs=0.01)
    naive = np.mean(1 - (1 - random.binomial(n, p, 20_000) / n) ** k)
    assert abs(naive - (1 - (1 - p) ** k)) > 0.02  # what it is there for


@pytest.mark.parametrize("samples,right,k", [(5, 6, 1), (5, -1, 1), (5, 1, 0), (5, 1, 6)])
def test_what_cannot_be(samples, right, k):
    with pytest.raises(ValueError, match="expected 1 to 5"):
        pass_at_k(samples, right, k)


def test_settings_that_say_nothing():
    check_ks([1, 10], 10, 0.8)
    check_ks([1], 1, 0.0)
    with pytest.raises(FirstTokenError, match="--pass-at 11 with --samples 10; expected 1 to 10"):
        check_ks([1, 11], 10, 0.8)
    with pytest.raises(FirstTokenError, match="at temperature 0, where all answers to a question are the same"):
        check_ks([5], 10, 0.0)
