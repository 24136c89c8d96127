"""Losses between two distributions over the vocabulary.

``p`` is the teacher, ``q`` the student, both softened: ``p = softmax(z / T)``. All take logits ``[..., vocab]`` and
return ``[...]`` in nats. All but cross-entropy are multiplied by ``T**2``, because the gradient of a softened
divergence shrinks as ``1 / T**2`` (Hinton, Vinyals, Dean 2015, arXiv:1503.02531); so changing the
temperature during training does not change the loss's share of the gradient.

The ``*_of`` functions are the same on log probabilities, without ``T**2``; `topk` uses them on grouped vocabularies.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = -100  # the label of a position that does not count, as everywhere in PyTorch
SKEW = 0.1  # DistiLLM's best value (arXiv:2402.03898)


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Returns ``log softmax(logits / temperature)``, ``[..., vocab]``; half precision is computed in float32."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return torch.log_softmax(logits if temperature == 1 else logits / temperature, dim=-1)  # every pass over a vocabulary counts


def forward_kl_of(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``sum_v p_v (log p_v - log q_v)``; where ``p_v`` is zero the term is zero, whatever ``q_v`` is."""
    if log_p.numel() and log_p.detach().amin() == -math.inf:
        absent = log_p == -math.inf
        difference = torch.where(absent, 0.0, log_p - torch.where(absent, 0.0, log_q))
    else:  # nearly always; every pass over a vocabulary counts
        difference = log_p - log_q
    return (log_p.exp() * difference).sum(dim=-1)


def reverse_kl_of(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``sum_v q_v (log q_v - log p_v)``."""
    return forward_kl_of(log_q, log_p)


def jensen_shannon_of(log_p: Tensor, log_q: Tensor, beta: float = 0.5) -> Tensor:
    """``beta KL(p | m) + (1 - beta) KL(q | m)`` with ``m = beta p + (1 - beta) q``."""
    log_m = log_mixture(log_p, log_q, beta)
    return beta * forward_kl_of(log_p, log_m) + (1 - beta) * forward_kl_of(log_q, log_m)


def skewed_kl_of(log_p: Tensor, log_q: Tensor, skew: float = SKEW) -> Tensor:
    """``KL(p | skew p + (1 - skew) q)``: bounded by ``-log skew`` where the student misses a token."""
    return forward_kl_of(log_p, log_mixture(log_p, log_q, skew))


def skewed_reverse_kl_of(log_p: Tensor, log_q: Tensor, skew: float = SKEW) -> Tensor:
    """``KL(q | skew q + (1 - skew) p)``."""
    return forward_kl_of(log_q, log_mixture(log_q, log_p, skew))


def log_mixture(log_a: Tensor, log_b: Tensor, share: float) -> Tensor:
    """``log(share a + (1 - share) b)`` from log probabilities; ``share`` lies strictly between 0 and 1."""
    if not 0 < share < 1:
        raise ValueError(f"the share of a mixture is {share}; expected a number between 0 and 1")
    # logaddexp has no gradient where both are -inf
    dead = (log_a == -math.inf) & (log_b == -math.inf)
    mixed = torch.logaddexp(torch.where(dead, 0.0, log_a) + math.log(share), torch.where(dead, 0.0, log_b) + math.log1p(-share))
    return torch.where(dead, -math.inf, mixed)


def softened(of: Callable, student_logits: Tensor, teacher_logits: Tensor, temperature: float, **options: float) -> Tensor:
    """Applies a ``*_of`` function to softened logits and multiplies by ``temperature**2``. Raises ValueError for ``temperature <= 0``."""
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; expected a number above 0")
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student logits {list(student_logits.shape)} and teacher logits {list(teacher_logits.shape)} differ in shape; expected the same"
        )
    return temperature**2 * of(log_probabilities(teacher_logits, temperature), log_probabilities(student_logits, temperature), **options)


def forward_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``T**2 KL(p | q)``, Hinton's distillation loss (arXiv:1503.02531): the student covers all that the teacher does."""
    return softened(forward_kl_of, student_logits, teacher_logits, temperature)


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``T**2 KL(q | p)`` (MiniLLM, arXiv:2306.08543): the student stays where the teacher is likely."""
    return softened(reverse_kl_of, student_logits, teacher_logits, temperature)


def jensen_shannon(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, beta: float = 0.5) -> Tensor:
    """``T**2`` times the generalised Jensen-Shannon divergence (GKD, arXiv:2306.13649); at most ``T**2 log 2`` for ``beta`` 0.5."""
    return softened(jensen_shannon_of, student_logits, teacher_logits, temperature, beta=beta)


def skewed_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, skew: float = SKEW) -> Tensor:
    """``T**2 KL(p | skew p + (1 - skew) q)`` (DistiLLM, arXiv:2402.03898)."""
    return softened(skewed_kl_of, student_logits, teacher_logits, temperature, skew=skew)


def skewed_reverse_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, skew: float = SKEW) -> Tensor:
    """``T**2 KL(q | skew q + (1 - skew) p)`` (DistiLLM, arXiv:2402.03898)."""
    return softened(skewed_reverse_kl_of, student_logits, teacher_logits, temperature, skew=skew)


def cross_entropy(student_logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """``-log q_label`` at temperature 1 for labels ``[...]``; zero, with a zero gradient, where the label is `IGNORED`.

    ``label_smoothing`` spreads that share of the target over the whole vocabulary: ``(1 - s) (-log q_label) + s / V sum_v -log q_v``
    (Szegedy et al. 2016, arXiv:1512.00567, section 7).
    """
    if student_logits.dtype in (torch.float16, torch.bfloat16):
        student_logits = student_logits.float()
    flat = functional.cross_entropy(
        student_logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="none", label_smoothing=label_smoothing
    )
    return flat.reshape(labels.shape)


# name in a recipe -> the loss on logits, and the same on log probabilities
DIVERGENCES: dict[str, tuple[Callable, Callable]] = {
    "forward_kl": (forward_kl, forward_kl_of),
    "reverse_kl": (reverse_kl, reverse_kl_of),
    "jensen_shannon": (jensen_shannon, jensen_shannon_of),
    "skewed_kl": (skewed_kl, skewed_kl_of),
    "skewed_reverse_kl": (skewed_reverse_kl, skewed_reverse_kl_of),
}
