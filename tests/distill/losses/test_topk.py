"""Grouped vocabularies against sums over the full one."""

import pytest
import torch

from firsttoken.distill.losses.divergence import DIVERGENCES, log_probabilities
from firsttoken.distill.losses.topk import grouped_student, grouped_teacher, topk_divergence


def logits(seed, *shape):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def group(teacher, k, temperature):
    top = teacher.topk(k, dim=-1)
    rest = (teacher / temperature).scatter(-1, top.indices, -torch.inf).logsumexp(-1)
    return top.indices, grouped_teacher(top.values, rest, temperature)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_grouped_probabilities_are_sums_of_the_full_ones(temperature):
    student, teacher = logits(0, 6, 40), logits(1, 6, 40)
    tokens, log_p = group(teacher, 5, temperature)
    full = log_probabilities(teacher, temperature).exp()
    torch.testing.assert_close(log_p[:, :5].exp(), full.gather(-1, tokens))
    torch.testing.assert_close(log_p[:, 5].exp(), 1 - full.gather(-1, tokens).sum(-1))
    log_q = grouped_student(student, tokens, temperature)
    torch.testing.assert_close(log_q.exp().sum(-1), torch.ones(6, dtype=torch.float64))


@pytest.mark.parametrize("name", list(DIVERGENCES))
def test_a_grouped_divergence_is_at_most_the_full_one_and_reaches_it_with_k(name):
    full, of = DIVERGENCES[name]
    student, teacher = logits(2, 20, 30), logits(3, 20, 30)
    exact = full(student, teacher, 2.0)
    last = torch.zeros(20, dtype=torch.float64)
    for k in (1, 5, 15, 29):
        tokens, log_p = group(teacher, k, 2.0)
        value = topk_divergence(of, student, tokens, log_p, 2.0)
        assert (value <= exact + 1e-12).all() and (value >= last - 1e-12).all()  # finer groups see more
        last = value
    torch.testing.assert_close(last, exact)


def test_exact_where_the_rest_keeps_its_proportions():
    full, of = DIVERGENCES["forward_kl"]
    teacher = logits(4, 8, 30)
    tokens, log_p = group(teacher, 6, 1.0)
    changed = teacher.scatter_add(-1, tokens, logits(5, 8, 6))
    torch.testing.assert_close(topk_divergence(of, changed, tokens, log_p), full(changed, teacher))


def test_gradients_and_digits_of_a_tiny_rest():
    student, teacher = logits(6, 3, 12).requires_grad_(), logits(7, 3, 12)
    tokens, log_p = group(teacher, 4, 2.0)
    for _, of in DIVERGENCES.values():
        assert torch.autograd.gradcheck(lambda z, of=of: topk_divergence(of, z, tokens, log_p, 2.0), student)
    sure = torch.zeros(1, 12)
    sure[0, 0] = 60.0
    log_q = grouped_student(sure, torch.tensor([[0]]))
    assert log_q[0, 1].item() == pytest.approx(-60 + torch.tensor(11.0).log().item(), rel=1e-5)
