"""Losses across vocabularies against the papers' formulas in numpy and scipy's Wasserstein distance."""

import numpy as np
import pytest
import scipy
import torch

from firsttoken.distill.losses.cross_tokenizer import ACROSS, gold, uld
from firsttoken.distill.losses.divergence import jensen_shannon


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_formula(student, teacher, temperature):
    total = []
    for z, y in zip(student.numpy(), teacher.numpy(), strict=True):
        q, p = (sorted(scipy.special.softmax(v / temperature), reverse=True) for v in (z, y))
        size = max(len(p), len(q))
        total.append(sum(abs(a - b) for a, b in zip(p + [0] * (size - len(p)), q + [0] * (size - len(q)), strict=True)))
    return np.array(total)


@pytest.mark.parametrize(("ours", "theirs"), [(11, 17), (17, 11), (9, 9)])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_uld_against_the_formula(ours, theirs, temperature):
    student, teacher = logits(0, 5, ours), logits(1, 5, theirs)
    np.testing.assert_allclose(uld(student, teacher, temperature), by_formula(student, teacher, temperature))


def test_uld_is_a_wasserstein_distance_of_the_probabilities():
    # of the sorted values: all moves between tokens cost the same, so the best plan pairs the largest with the largest
    student, teacher = logits(2, 4, 12), logits(3, 4, 12)
    for value, z, y in zip(uld(student, teacher), student.numpy(), teacher.numpy(), strict=True):
        p, q = scipy.special.softmax(y), scipy.special.softmax(z)
        assert value.item() == pytest.approx(12 * scipy.stats.wasserstein_distance(p, q))


def test_uld_does_not_see_which_tokens_are_meant():
    student = logits(4, 3, 8)
    shuffled = torch.cat([student[:, torch.randperm(8, generator=torch.Generator().manual_seed(1))], torch.full((3, 2), -torch.inf)], -1)
    assert uld(student, shuffled).max() < 1e-12
    assert gold(student, shuffled[:, :8], matched=(torch.arange(8), torch.arange(8))).min() > 0.01  # which gold does


def test_gold_against_its_parts():
    student, teacher = logits(5, 6, 7), logits(6, 6, 10)
    ours, theirs = torch.tensor([1, 4, 6]), torch.tensor([9, 0, 3])
    p, q = (scipy.special.softmax(z.numpy() / 1.5, axis=-1) for z in (teacher, student))
    a, b = p[:, [9, 0, 3]], q[:, [1, 4, 6]]
    m = 0.2 * a + 0.8 * b
    same = (0.2 * a * np.log(a / m) + 0.8 * b * np.log(b / m)).sum(-1)
    others = [np.sort(np.delete(x, left, axis=-1), axis=-1)[:, ::-1] for x, left in ((p, [9, 0, 3]), (q, [1, 4, 6]))]
    apart = np.abs(others[0] - np.pad(others[1], ((0, 0), (0, 3)))).sum(-1)
    np.testing.assert_allclose(gold(student, teacher, 1.5, 0.2, (ours, theirs)), 0.3 * same + 0.7 * apart)


def test_gold_of_one_vocabulary_is_jensen_shannon_and_of_none_in_common_uld():
    student, teacher = logits(7, 4, 9), logits(8, 4, 9)
    torch.testing.assert_close(gold(student, teacher, 2.0), jensen_shannon(student, teacher, 2.0) / 4)
    every, none = torch.arange(9), torch.tensor([], dtype=torch.long)
    torch.testing.assert_close(gold(student, teacher, matched=(every, every)), gold(student, teacher))
    torch.testing.assert_close(gold(student, teacher, matched=(none, none)), uld(student, teacher))


@pytest.mark.parametrize("loss", ACROSS.values(), ids=ACROSS)
def test_gradients_half_precision_and_a_wrong_temperature(loss):
    student, teacher = logits(9, 3, 6).requires_grad_(), logits(10, 3, 6)
    assert torch.autograd.gradcheck(lambda z: loss(z, teacher, 2.0), student)
    half = loss(student.detach().bfloat16(), teacher.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), loss(student.detach().bfloat16().double(), teacher.bfloat16().double()), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="expected a number above 0"):
        loss(student, teacher, 0.0)
