"""RMSNorm, in FP32 whatever the layers around it compute in."""

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


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
