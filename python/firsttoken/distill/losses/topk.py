"""Divergences from a teacher of which only the ``k`` most likely tokens are known, and the mass of all others.

The vocabulary is grouped into ``k`` single tokens and one group "everything else" whose probability is exact on both
sides, so both grouped distributions sum to one and nothing is renormalised away. A divergence of grouped distributions
never exceeds the full one (data processing inequality; Cover and Thomas, and for all f-divergences
Csiszar 1967), and equals it where the group's tokens keep their proportions. Leaving the group out, as is often done,
instead teaches the student to be ``1 / known mass`` too sure of every known token.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from firsttoken.distill.losses.divergence import log_probabilities


def grouped_student(student_logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Student log probabilities of ``tokens`` ``[..., k]`` and of all others together -> ``[..., k + 1]``.

    ``student_logits`` is ``[..., vocab]`` with ``k < vocab``. The group's probability is summed from its own tokens, not
    taken as one minus the rest, which would lose all digits where the known tokens hold nearly everything.
    """
    log_q = log_probabilities(student_logits, temperature)
    known = log_q.gather(-1, tokens)
    others = log_q.scatter(-1, tokens, -torch.inf).logsumexp(dim=-1, keepdim=True)
    return torch.cat([known, others], dim=-1)


def grouped_teacher(logits: Tensor, log_rest: Tensor, temperature: float = 1.0) -> Tensor:
    """Teacher log probabilities from the logits ``[..., k]`` of its known tokens and the group's log mass ``[...]`` -> ``[..., k + 1]``.

    ``log_rest`` is ``log sum_v exp(z_v / temperature)`` over all other tokens, with the same zero point as ``logits``.
    """
    return torch.log_softmax(torch.cat([logits / temperature, log_rest.unsqueeze(-1)], dim=-1), dim=-1)


def topk_divergence(
    of: Callable, student_logits: Tensor, tokens: Tensor, log_p: Tensor, temperature: float = 1.0, **options: float
) -> Tensor:
    """``T**2`` times a ``*_of`` divergence on the grouped vocabulary.

    ``student_logits`` ``[..., vocab]``, ``tokens`` ``[..., k]``, ``log_p`` ``[..., k + 1]`` as `grouped_teacher` gives it;
    returns ``[...]``.
    """
    return temperature**2 * of(log_p, grouped_student(student_logits, tokens, temperature), **options)
