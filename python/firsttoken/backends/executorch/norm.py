"""RMSNorm and LayerNorm, in FP32 whatever the layers around them compute in."""

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from firsttoken.decoder import parts


class RmsNorm(nn.Module):
    """``x / sqrt(mean(x^2) + epsilon) * weight`` over the last dimension (Zhang and Sennrich 2019, arXiv 1910.07467).

    The mean is a linear layer with one constant row 1/size and epsilon as its bias, because XNNPACK refuses a mean
    over a tensor whose length is only known at run time, and takes a linear layer.
    """

    mean_row: Tensor
    epsilon: Tensor

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size), requires_grad=False)
        self.register_buffer("mean_row", torch.full((1, size), 1.0 / size, device="cpu"), persistent=False)
        self.register_buffer("epsilon", torch.full((1,), epsilon, device="cpu"), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns float32 ``[..., size]``."""
        return x * torch.rsqrt(functional.linear(x * x, self.mean_row, self.epsilon)) * self.weight


class Norm(RmsNorm):
    """Any other norm of `parts.Norm`: without a weight, with the mean taken off first, with a bias (arXiv 1607.06450)."""

    bias: Tensor | None

    def __init__(self, part: parts.Norm) -> None:
        super().__init__(part.size, part.epsilon)
        self.centred = part.centred
        if part.weight is None:
            del self.weight
        self.bias = None if part.bias is None else nn.Parameter(torch.zeros(part.size), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns float32 ``[..., size]``."""
        if self.centred:
            x = x - functional.linear(x, self.mean_row)
        x = x * torch.rsqrt(functional.linear(x * x, self.mean_row, self.epsilon))
        if "weight" in self._parameters:
            x = x * self.weight
        return x if self.bias is None else x + self.bias


class FactorModule(nn.Module):
    """Stored numbers that a state is multiplied by: one, or one for each of its ``size`` values."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def norm_module(part: parts.Norm) -> RmsNorm:
    """The module of a norm, its weight and bias still to be filled."""
    plain = part.weight is not None and part.bias is None and not part.centred
    return RmsNorm(part.size, part.epsilon) if plain else Norm(part)
