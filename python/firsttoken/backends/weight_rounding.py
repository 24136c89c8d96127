"""The base of what rounds weights in quantization-aware training as a backend's file will hold them."""

import torch
from torch import Tensor, nn


class Rounding(nn.Module):
    """Weights ``[rows, columns]`` rounded by `rounded`, with the gradient of the identity; takes torchao's place in its layers."""

    config = None  # torchao asks for it when it puts plain layers back

    def forward(self, weight: Tensor) -> Tensor:
        with torch.no_grad():
            rounded = self.rounded(weight)
        return weight + (rounded - weight).detach()

    def rounded(self, weight: Tensor) -> Tensor:
        raise NotImplementedError
