"""Attention transfer: the student looks where the teacher looks.

Decoders and encoders have attention maps, ``[batch, heads, queries, keys]`` with rows that sum to one. CNNs have none;
their activations say where they look (Zagoruyko and Komodakis, arXiv:1612.03928).
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from firsttoken.distill.losses.divergence import forward_kl_of
from firsttoken.distill.losses.hidden import as_float


def attention_transfer(student: Tensor, teacher: Tensor, measure: Literal["kl", "l2"] = "kl") -> Tensor:
    """Compares head-averaged attention maps, ``[batch, heads, queries, keys]`` each -> ``[batch, queries]``.

    ``kl`` is ``KL(teacher | student)`` of every query's row in nats (MiniLM, arXiv:2002.10957), ``l2`` the
    mean squared difference over the keys (TinyBERT, arXiv:1909.10351). Averaging over the heads first makes
    models with different numbers of heads comparable; it is the only difference from the papers' equations.
    """
    if student.shape[0] != teacher.shape[0] or student.shape[-2:] != teacher.shape[-2:]:
        raise ValueError(
            f"student maps {list(student.shape)} and teacher maps {list(teacher.shape)} differ in batch, queries or keys; expected the same"
        )
    student, teacher = as_float(student).mean(dim=1), as_float(teacher).mean(dim=1)
    if measure == "l2":
        return (student - teacher).square().mean(dim=-1)
    if measure != "kl":
        raise ValueError(f"measure is {measure!r}; expected 'kl' or 'l2'")
    # a key that the teacher does not see has no term; one that only the student does not see must cost, not be infinite
    tiny = torch.finfo(student.dtype).tiny
    log_teacher = torch.where(teacher > 0, teacher.clamp_min(tiny).log(), -math.inf)
    return forward_kl_of(log_teacher, student.clamp_min(tiny).log())


def activation_attention(features: Tensor, power: int = 2) -> Tensor:
    """Where a CNN looks: ``sum_c |A_c|**power`` over the channels of ``[batch, channels, height, width]``, as rows of length 1.

    Returns ``[batch, height * width]`` (Zagoruyko and Komodakis, arXiv:1612.03928).
    """
    rows = as_float(features).abs().pow(power).sum(dim=1).flatten(1)
    return nn.functional.normalize(rows, dim=-1)


def activation_attention_transfer(student: Tensor, teacher: Tensor, power: int = 2) -> Tensor:
    """L2 distance between the two models' `activation_attention`, ``[batch]`` (arXiv:1612.03928, p = 2).

    Feature maps of different sizes are brought to the smaller one by adaptive average pooling; channels may differ.
    """
    size = min(student.shape[-2], teacher.shape[-2]), min(student.shape[-1], teacher.shape[-1])
    if student.shape[-2:] != size:
        student = nn.functional.adaptive_avg_pool2d(student, size)
    if teacher.shape[-2:] != size:
        teacher = nn.functional.adaptive_avg_pool2d(teacher, size)
    difference = activation_attention(student, power) - activation_attention(teacher, power)
    # the norm has no gradient at zero
    return difference.square().sum(dim=-1).clamp_min(torch.finfo(difference.dtype).tiny).sqrt()
