"""mixup and CutMix: samples mixed with each other while a classifier trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from firsttoken.distill.recipe import RecipePart
from firsttoken.errors import FirstTokenError

if TYPE_CHECKING:
    from torch import Tensor


class Mixing(RecipePart):
    """How samples are mixed. With both kinds, each batch takes one of the two, equally likely."""

    mixup: float | None = Field(default=None, gt=0)  # both parameters of the Beta distribution that shares are drawn from
    cutmix: float | None = Field(default=None, gt=0)
    chance: float = Field(default=1.0, gt=0, le=1)  # that a batch is mixed
    teachers: bool = False  # whether teachers, too, train on mixed samples

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.mixup is None and self.cutmix is None:
            raise ValueError(
                "mixing needs mixup, cutmix or both: the parameter of the distribution that shares are drawn from, such as 0.2 or 1.0"
            )
        return self


@dataclass(frozen=True)
class Mixed:
    """A mixed batch: ``share`` of each sample and label is its own, the rest those of the sample at ``partner`` ``[batch]``."""

    inputs: Tensor
    partner: Tensor
    share: float


def mix(mixing: Mixing, inputs: Tensor, draw: tuple[int, ...]) -> Mixed | None:
    """Mixes a batch ``[batch, …]``, or returns None for one that stays as it is.

    mixup: ``share · x + (1 - share) · x'``, ``share ~ Beta(a, a)`` (Zhang et al., arXiv:1710.09412). CutMix: a box of ``1 - share``
    of the picture's area, anywhere, is the partner's; ``share`` is then what is left of the own picture (Yun et al.,
    arXiv:1905.04899). What is drawn depends on ``draw`` alone, so that a run that goes on sees the same. Raises `FirstTokenError`
    for inputs that are no numbers, or for CutMix no pictures ``[batch, channels, height, width]``.
    """
    import numpy
    import torch

    check_mixable(mixing, inputs)
    random = numpy.random.default_rng(draw)
    if random.random() >= mixing.chance:
        return None
    cut = mixing.mixup is None or (mixing.cutmix is not None and random.random() < 0.5)
    alpha = mixing.cutmix if cut else mixing.mixup
    assert alpha is not None, "a recipe names at least one of the two"
    share = float(random.beta(alpha, alpha))
    partner = torch.from_numpy(random.permutation(len(inputs))).to(inputs.device)
    if not cut:
        return Mixed(share * inputs + (1 - share) * inputs[partner], partner, share)
    height, width = inputs.shape[2:]
    (top, bottom), (left, right) = (_side(size, share, int(random.integers(size))) for size in (height, width))
    mixed = inputs.clone()
    mixed[:, :, top:bottom, left:right] = inputs[partner, :, top:bottom, left:right]
    return Mixed(mixed, partner, 1 - (bottom - top) * (right - left) / (height * width))


def _side(size: int, share: float, centre: int) -> tuple[int, int]:
    """One side of CutMix's box: ``size · √(1 - share)`` around ``centre``, as far as it lies in the picture."""
    half = int(size * (1 - share) ** 0.5) / 2
    return max(0, int(centre - half)), min(size, int(centre + half))


def check_mixable(mixing: Mixing, inputs: Tensor) -> None:
    """Raises `FirstTokenError` for inputs that cannot be mixed as is asked."""
    if not inputs.is_floating_point():
        raise FirstTokenError(
            f"mixing: inputs are {inputs.dtype}, which cannot be mixed; expected pictures or measures in floats; leave mixing out"
        )
    if mixing.cutmix is not None and inputs.dim() != 4:
        raise FirstTokenError(
            f"mixing.cutmix: inputs are {list(inputs.shape[1:])} each; expected pictures [channels, height, width]; take mixup instead"
        )
