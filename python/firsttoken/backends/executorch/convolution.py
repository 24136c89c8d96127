"""The short convolution with what it remembers, in FP32."""

import torch
from torch import Tensor, nn

from firsttoken.decoder import parts


class Convolution(nn.Module):
    """A sum of products of shifted inputs: a convolution operator would want another layout of its input, and XNNPACK no more than these.

    ``inputs`` are the last ones of the calls before, a mutable buffer of the program.
    """

    inputs: Tensor

    def __init__(self, part: parts.Convolution) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.ones(part.channels), requires_grad=False) for _ in range(part.length))
        self.bias = None if part.bias is None else nn.Parameter(torch.zeros(part.channels), requires_grad=False)
        self.register_buffer("inputs", torch.zeros(1, part.length - 1, part.channels, device="cpu"))

    def forward(self, x: Tensor, fresh: Tensor) -> Tensor:
        """Takes and returns float32 ``[1, S, channels]``; ``fresh [1, 1, 1]`` says whether the call begins at position 0, before which all is zero."""
        rows = len(self.weights) - 1
        known = torch.cat((self.inputs.masked_fill(fresh, 0.0), x), 1)
        self.inputs.copy_(known[:, -rows:])
        mixed = x * self.weights[rows]
        for place in range(rows):
            mixed = mixed + known[:, place : place - rows] * self.weights[place]
        return mixed if self.bias is None else mixed + self.bias
