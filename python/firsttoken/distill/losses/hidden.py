"""Losses between hidden states, through a learned projection from the student's width to the teacher's.

Decoders and encoders have states ``[batch, tokens, width]`` and a linear projection (TinyBERT, arXiv:1909.10351);
CNNs have feature maps ``[batch, channels, height, width]`` and a 1x1 convolution (FitNets,
arXiv:1412.6550, whose regressor it is with a kernel of 1).
"""

import torch
from torch import Tensor, nn

SMALLEST = 1e-12  # mean square below which a teacher's state counts as zero


class Projection(nn.Module):
    """Maps the student's states to the teacher's width: linear for ``[..., width]``, a 1x1 convolution for feature maps.

    It starts as the identity on the shared width, so that a student cut from the teacher begins where it is.
    """

    def __init__(self, student_width: int, teacher_width: int, feature_maps: bool = False) -> None:
        super().__init__()
        self.map = (
            nn.Conv2d(student_width, teacher_width, 1, bias=False) if feature_maps else nn.Linear(student_width, teacher_width, bias=False)
        )
        with torch.no_grad():
            nn.init.normal_(self.map.weight, std=0.02 if student_width != teacher_width else 0.0)
            shared = torch.arange(min(student_width, teacher_width))
            self.map.weight[shared, shared] = 1.0

    def forward(self, states: Tensor) -> Tensor:
        return self.map(states.to(self.map.weight.dtype))  # a student in half precision has projections in float32


def hidden_l2(projected: Tensor, teacher: Tensor, relative: bool = False) -> Tensor:
    """Mean squared difference over the width, ``[..., width]`` -> ``[...]`` (FitNets, arXiv:1412.6550).

    ``relative`` divides by the teacher's mean square at the same position: 1 is then an answer of zero, in every layer
    of every model, so that one weight fits all.
    """
    check_shapes(projected, teacher)
    projected, teacher = as_float(projected), as_float(teacher)
    difference = (projected - teacher).square().mean(dim=-1)
    return difference / teacher.square().mean(dim=-1).clamp_min(SMALLEST) if relative else difference


def hidden_cosine(projected: Tensor, teacher: Tensor) -> Tensor:
    """``1 - cos`` of the angle between the states, ``[..., width]`` -> ``[...]`` (DistilBERT, arXiv:1910.01108)."""
    check_shapes(projected, teacher)
    return 1 - nn.functional.cosine_similarity(as_float(projected), as_float(teacher), dim=-1)


def positions_of(feature_maps: Tensor) -> Tensor:
    """Feature maps ``[batch, channels, height, width]`` as states ``[batch, height * width, channels]``."""
    return feature_maps.flatten(2).transpose(1, 2)


def layer_pairs(student_layers: int, teacher_layers: int) -> list[tuple[int, int]]:
    """Pairs every student layer with a teacher layer at the same relative depth, the last with the last; counted from 0.

    The uniform map of TinyBERT (arXiv:1909.10351), for depths that do not divide.
    """
    if student_layers < 1 or teacher_layers < 1:
        raise ValueError(f"{student_layers} student and {teacher_layers} teacher layers cannot be paired; expected at least one each")
    return [(n, max(0, round((n + 1) * teacher_layers / student_layers) - 1)) for n in range(student_layers)]


def check_shapes(projected: Tensor, teacher: Tensor) -> None:
    """Raises ValueError where the states do not have the same shape; broadcasting would hide it."""
    if projected.shape != teacher.shape:
        raise ValueError(
            f"projected student states {list(projected.shape)} and teacher states {list(teacher.shape)} differ in shape; expected the same"
        )


def as_float(states: Tensor) -> Tensor:
    """Half precision as float32, anything else as it is."""
    return states.float() if states.dtype in (torch.float16, torch.bfloat16) else states
