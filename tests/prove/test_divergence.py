"""The figures against independent computations: scipy-free formulas in high precision, torch, and cases worked by hand."""

import math

import numpy as np
import pytest
import torch

from firsttoken.prove.divergence import BROKEN_KLD, LARGEST, diverge, figures, log_softmax


def random_pair(positions=50, vocab=37, scale=4.0, noise=0.3, seed=0):
    random = np.random.default_rng(seed)
    reference = (random.standard_normal((positions, vocab)) * scale).astype(np.float32)
    logits = reference + (random.standard_normal((positions, vocab)) * noise).astype(np.float32)
    return logits, reference, random.integers(0, vocab, positions)


def whole(divergence):
    return figures(divergence, np.ones(len(divergence.kld), bool))


def test_equal_logits_do_not_diverge():
    _, reference, tokens = random_pair()
    got = whole(diverge(reference, reference, tokens))
    assert got.mean_kld == got.p99_kld == got.p999_kld == got.perplexity_change == 0
    assert got.same_top == got.magnitude_ratio == 1
    assert got.tokens == 50


def test_against_torch():
    logits, reference, tokens = random_pair()
    q, p = (torch.from_numpy(x).double().log_softmax(-1) for x in (logits, reference))
    kld = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
    got = diverge(logits, reference, tokens)
    assert np.allclose(got.kld, kld, rtol=1e-9, atol=0)
    summed = whole(got)
    assert summed.mean_kld == pytest.approx(kld.mean().item(), rel=1e-9)
    assert summed.p99_kld == pytest.approx(kld.quantile(0.99).item(), rel=1e-9)
    assert summed.p999_kld == pytest.approx(kld.quantile(0.999).item(), rel=1e-9)
    assert summed.same_top == (logits.argmax(-1) == reference.argmax(-1)).mean()
    index = torch.from_numpy(tokens)
    assert summed.perplexity == pytest.approx(torch.nn.functional.cross_entropy(torch.from_numpy(logits).double(), index).exp().item())
    assert summed.reference_perplexity == pytest.approx(
        torch.nn.functional.cross_entropy(torch.from_numpy(reference).double(), index).exp().item()
    )
    assert summed.perplexity_change == pytest.approx(summed.perplexity / summed.reference_perplexity - 1)


def test_worked_by_hand():
    # p = (1/2, 1/2), q = (3/4, 1/4): D(p||q) = 1/2 ln(2/3) + 1/2 ln 2 = ln(2/sqrt(3)); the next token is the second
    got = diverge(np.array([[math.log(3), 0.0]], np.float32), np.zeros((1, 2), np.float32), np.array([1]))
    assert got.kld[0] == pytest.approx(math.log(2 / math.sqrt(3)), rel=1e-6)
    summed = whole(got)
    assert summed.perplexity == pytest.approx(4, rel=1e-6) and summed.reference_perplexity == pytest.approx(2)
    assert summed.perplexity_change == pytest.approx(1, rel=1e-6)


def test_divergences_below_float32_are_seen():
    # for a small change e of one logit, D = e^2 p (1 - p) / 2 + O(e^3): far below what float32 sums resolve
    reference = np.zeros((1, 1000), np.float32)
    logits = reference.copy()
    logits[0, 0] = 1e-3
    expected = 1e-6 * 0.001 * 0.999 / 2
    assert diverge(logits, reference, np.array([0])).kld[0] == pytest.approx(expected, rel=1e-2)


def test_a_constant_added_changes_nothing_but_the_magnitude():
    logits, reference, tokens = random_pair()
    one, other = diverge(logits, reference, tokens), diverge(logits + 8, reference, tokens)
    assert np.allclose(one.kld, other.kld, atol=1e-6)
    assert whole(other).magnitude_ratio > 1.5


def test_magnitude_is_a_ratio_of_root_mean_squares():
    _, reference, tokens = random_pair()
    assert whole(diverge(reference * np.float32(1.25), reference, tokens)).magnitude_ratio == pytest.approx(1.25, rel=1e-6)


def test_huge_logits_do_not_overflow():
    reference = np.array([[3e38, -3e38, 0.0]], np.float32)
    assert whole(diverge(reference, reference, np.array([0]))).mean_kld == 0
    assert np.isfinite(log_softmax(reference)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_numbers_are_the_worst_and_still_json(bad):
    logits, reference, tokens = random_pair()
    logits[7, 3] = bad
    got = diverge(logits, reference, tokens)
    assert got.kld[7] == BROKEN_KLD and not got.same_top[7]
    summed = whole(got)
    assert summed.mean_kld > 1e4 and summed.magnitude_ratio > 1e6
    assert all(math.isfinite(value) for value in summed.model_dump(exclude={"first_diverging"}).values())


def test_impossible_next_tokens_stay_finite():
    logits = np.array([[0.0, -1e30]], np.float32)
    summed = whole(diverge(logits, np.zeros((1, 2), np.float32), np.array([1])))
    assert summed.perplexity == pytest.approx(LARGEST) and math.isfinite(summed.perplexity_change)


def test_no_positions_at_all():
    logits, reference, tokens = random_pair()
    assert figures(diverge(logits, reference, tokens), np.zeros(50, bool)).tokens == 0
