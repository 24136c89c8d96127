"""Losses between distributions over two different vocabularies.

Both sides have read the same text; what they say is comparable only where the text ends between two tokens of either (`distill.text_alignment`
finds those places). Logits are ``[..., student vocabulary]`` and ``[..., teacher vocabulary]``, the result is ``[...]``. Nothing is multiplied by
``T**2``, as in the papers: a distance of probabilities is bounded, at most 2.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from firsttoken.distill.losses.divergence import jensen_shannon_of, log_probabilities


def sorted_distance(p: Tensor, q: Tensor) -> Tensor:
    """``sum_i |p_(i) - q_(i)|``, both sorted from the largest on, the shorter one filled up with zeros."""
    p, q = (each.sort(dim=-1, descending=True).values for each in (p, q))
    size = max(p.shape[-1], q.shape[-1])
    p, q = (functional.pad(each, (0, size - each.shape[-1])) for each in (p, q))
    return (p - q).abs().sum(dim=-1)


def uld(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Universal logit distillation (Boizard et al. 2024, arXiv:2402.12030): how differently sure the two are, whichever tokens they mean.

    It is the Wasserstein distance where every move between tokens costs the same. Raises ValueError for ``temperature <= 0``.
    """
    check_temperature(temperature)
    return sorted_distance(*(log_probabilities(logits, temperature).exp() for logits in (teacher_logits, student_logits)))


def gold(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    beta: float = 0.5,
    matched: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """``w JSD_beta(p, q)`` over the tokens that both vocabularies have, and ``(1 - w)`` times the sorted distance of the others.

    ``matched`` are those tokens' numbers, the student's and the teacher's, ``[m]`` each; None: all, in the same order. ``w`` is their share of
    the teacher's vocabulary. Probabilities are not made to sum to one on either part (the hybrid loss of GOLD, General On-policy Logit
    Distillation, Patiño et al. 2025). Raises ValueError for ``temperature <= 0``.
    """
    check_temperature(temperature)
    log_p, log_q = log_probabilities(teacher_logits, temperature), log_probabilities(student_logits, temperature)
    if matched is None:
        return jensen_shannon_of(log_p, log_q, beta)
    ours, theirs = matched
    share = len(theirs) / log_p.shape[-1]
    total = (1 - share) * sorted_distance(without(log_p.exp(), theirs), without(log_q.exp(), ours))
    return total + share * jensen_shannon_of(log_p[..., theirs], log_q[..., ours], beta) if len(theirs) else total


def without(values: Tensor, left_out: Tensor) -> Tensor:
    """``values`` ``[..., n]`` less the columns ``left_out``."""
    kept = torch.ones(values.shape[-1], dtype=torch.bool, device=values.device)
    kept[left_out] = False
    return values[..., kept]


def check_temperature(temperature: float) -> None:
    """Raises ValueError unless it is above 0."""
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; expected a number above 0")


# name in a recipe -> the loss
ACROSS: dict[str, Callable[..., Tensor]] = {"uld": uld, "gold": gold}
