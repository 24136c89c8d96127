"""Divergences against torch.distributions, scipy and gradcheck."""

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.spatial.distance import jensenshannon
from torch.distributions import Categorical, kl_divergence

from firsttoken.distill.losses import divergence

NAMES = list(divergence.DIVERGENCES)


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0, 5.0])
def test_forward_and_reverse_kl_against_torch_distributions(temperature):
    student, teacher = logits(0, 2, 5, 11), logits(1, 2, 5, 11)
    p, q = Categorical(logits=teacher / temperature), Categorical(logits=student / temperature)
    torch.testing.assert_close(divergence.forward_kl(student, teacher, temperature), temperature**2 * kl_divergence(p, q))
    torch.testing.assert_close(divergence.reverse_kl(student, teacher, temperature), temperature**2 * kl_divergence(q, p))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_jensen_shannon_and_skewed_kl_against_scipy(temperature):
    student, teacher = logits(2, 7, 9), logits(3, 7, 9)
    p, q = (scipy.special.softmax(z.numpy() / temperature, axis=-1) for z in (teacher, student))
    scale = temperature**2
    np.testing.assert_allclose(divergence.jensen_shannon(student, teacher, temperature), scale * jensenshannon(p, q, axis=-1) ** 2)
    np.testing.assert_allclose(
        divergence.skewed_kl(student, teacher, temperature, 0.1), scale * scipy.stats.entropy(p, 0.1 * p + 0.9 * q, axis=-1)
    )
    np.testing.assert_allclose(
        divergence.skewed_reverse_kl(student, teacher, temperature, 0.3), scale * scipy.stats.entropy(q, 0.3 * q + 0.7 * p, axis=-1)
    )
    m = 0.2 * p + 0.8 * q
    expected = 0.2 * scipy.stats.entropy(p, m, axis=-1) + 0.8 * scipy.stats.entropy(q, m, axis=-1)
    np.testing.assert_allclose(divergence.jensen_shannon(student, teacher, temperature, beta=0.2), scale * expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_divergence_is_zero_only_between_equals_and_its_gradient_is_right(name):
    loss, _ = divergence.DIVERGENCES[name]
    student, teacher = logits(4, 3, 6).requires_grad_(), logits(5, 3, 6)
    assert loss(student, teacher, 2.0).min() > 1e-3
    assert loss(teacher + 7.5, teacher, 2.0).abs().max() < 1e-12  # a common offset is no difference
    assert torch.autograd.gradcheck(lambda z: loss(z, teacher, 2.0), student)


@pytest.mark.parametrize("name", NAMES)
def test_tokens_that_are_impossible_on_both_sides_change_nothing(name):
    loss, _ = divergence.DIVERGENCES[name]
    student, teacher = logits(6, 3, 6), logits(7, 3, 6)
    padding = torch.full((3, 2), -torch.inf, dtype=torch.float64)
    wide = torch.cat([student, padding], -1).requires_grad_()
    value = loss(wide, torch.cat([teacher, padding], -1), 3.0)
    torch.testing.assert_close(value, loss(student, teacher, 3.0))
    value.sum().backward()
    assert torch.isfinite(wide.grad).all() and (wide.grad[:, 6:] == 0).all()


def test_temperature_squared_keeps_the_gradient_of_the_same_size():
    # for small logits the gradient tends to (q - p) whatever the temperature: Hinton et al., section 2.1
    student, teacher = (0.01 * logits(8, 4, 10)).requires_grad_(), 0.01 * logits(9, 4, 10)
    sizes = []
    for temperature in (1.0, 5.0, 20.0):
        [slope] = torch.autograd.grad(divergence.forward_kl(student, teacher, temperature).sum(), student)
        sizes.append(slope.norm().item())
    assert max(sizes) / min(sizes) < 1.05


def test_cross_entropy_against_scipy_and_ignored_positions():
    z, labels = logits(10, 2, 4, 9).requires_grad_(), torch.tensor([[0, 8, -100, 3], [-100, -100, 1, 2]])
    value = divergence.cross_entropy(z, labels)
    expected = -scipy.special.log_softmax(z.detach().numpy(), axis=-1)
    for place in np.ndindex(2, 4):
        label = int(labels[place])
        assert value[place].item() == (0 if label < 0 else pytest.approx(expected[place][label]))
    value.sum().backward()
    assert (z.grad[labels == -100] == 0).all() and (z.grad[labels != -100] != 0).any(-1).all()


def test_half_precision_is_computed_in_float32():
    student, teacher = logits(11, 4, 50).bfloat16(), logits(12, 4, 50).bfloat16()
    value = divergence.forward_kl(student, teacher, 2.0)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), divergence.forward_kl(student.double(), teacher.double(), 2.0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"temperature": -1.0}, {"temperature": float("nan")}])
def test_a_wrong_temperature_is_refused(wrong):
    with pytest.raises(ValueError, match="expected a number above 0"):
        divergence.forward_kl(logits(0, 1, 3), logits(1, 1, 3), **wrong)


def test_different_vocabularies_are_refused_instead_of_broadcast():
    with pytest.raises(ValueError, match="differ in shape"):
        divergence.forward_kl(logits(0, 4, 3), logits(1, 1, 3))
    with pytest.raises(ValueError, match="between 0 and 1"):
        divergence.skewed_kl(logits(0, 1, 3), logits(1, 1, 3), skew=1.0)
