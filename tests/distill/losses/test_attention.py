"""Attention transfer against scipy and numpy."""

import numpy as np
import pytest
import scipy.stats
import torch

from firsttoken.distill.losses.attention import activation_attention_transfer, attention_transfer


def maps(seed: int, heads: int, length: int = 6) -> torch.Tensor:
    scores = 2 * torch.randn(2, heads, length, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, -torch.inf).softmax(-1)


def test_kl_of_causal_maps_with_different_numbers_of_heads():
    student, teacher = maps(0, 2), maps(1, 8)
    p, q = teacher.mean(1).numpy(), student.mean(1).numpy()
    value = attention_transfer(student, teacher)
    for b, row in np.ndindex(2, 6):
        seen = slice(0, row + 1)
        assert value[b, row].item() == pytest.approx(scipy.stats.entropy(p[b, row, seen], q[b, row, seen]), abs=1e-12)
    assert attention_transfer(teacher, teacher).abs().max() < 1e-12


def test_l2_of_maps():
    student, teacher = maps(2, 4), maps(3, 4)
    np.testing.assert_allclose(attention_transfer(student, teacher, "l2"), ((student.mean(1) - teacher.mean(1)) ** 2).mean(-1))


@pytest.mark.parametrize("measure", ["kl", "l2"])
def test_gradients_through_the_softmax(measure):
    scores = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64, requires_grad=True)
    teacher = maps(5, 3, 4)[:1]
    assert torch.autograd.gradcheck(lambda s: attention_transfer(s.softmax(-1), teacher, measure), scores)


def test_a_key_that_only_the_teacher_sees_costs_much_and_is_finite():
    teacher = torch.tensor([[[[0.5, 0.5]]]])
    student = torch.tensor([[[[1.0, 0.0]]]], requires_grad=True)
    value = attention_transfer(student, teacher)
    assert 10 < value.item() < 100


def test_wrong_shapes_and_measures_are_refused():
    with pytest.raises(ValueError, match="differ in batch, queries or keys"):
        attention_transfer(maps(0, 2, 5), maps(0, 2, 6))
    with pytest.raises(ValueError, match="expected 'kl' or 'l2'"):
        attention_transfer(maps(0, 2), maps(0, 2), "l1")


def test_activation_maps_of_cnns_against_numpy():
    generator = torch.Generator().manual_seed(6)
    student, teacher = (torch.randn(3, c, 4, 4, generator=generator, dtype=torch.float64) for c in (5, 9))

    def where(features):
        rows = (features.numpy() ** 2).sum(1).reshape(3, -1)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    np.testing.assert_allclose(activation_attention_transfer(student, teacher), np.linalg.norm(where(student) - where(teacher), axis=1))
    # twice the resolution of the same picture looks at the same places
    large = teacher.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert activation_attention_transfer(large, teacher).max() < 1e-9
    given = student.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda f: activation_attention_transfer(f, teacher), given)
    equal = teacher.clone().requires_grad_()
    activation_attention_transfer(equal, teacher).sum().backward()
    assert torch.isfinite(equal.grad).all()
