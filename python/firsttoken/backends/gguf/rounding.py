"""Weights and inputs rounded as llama.cpp does (Q8_0, Q4_0), for quantization-aware training."""

import torch
from torch import Tensor

from firsttoken.backends.gguf.storage import BLOCK
from firsttoken.backends.weight_rounding import Rounding


class BlockRounding(Rounding):
    """Blocks of 32 with a scale in float16: a weight's in ``precision``; an input's, ``precision`` "states", is int8, ties to even."""

    def __init__(self, precision: str) -> None:
        super().__init__()
        self.precision = precision

    def rounded(self, weight: Tensor) -> Tensor:
        """What the blocks stand for, float32 of the same shape."""
        blocks = weight.unflatten(-1, (-1, BLOCK))
        if self.precision == "int4":
            scale = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True)) / -8
        else:
            scale = blocks.abs().amax(-1, keepdim=True) / 127
        scaled = blocks * torch.where(scale == 0, 0, 1 / scale)
        if self.precision == "int4":
            integers = torch.floor(scaled + 8.5).clamp(0, 15) - 8
        else:
            integers = torch.round(scaled) if self.precision == "states" else scaled.sign() * torch.floor(scaled.abs() + 0.5)
        return (integers * scale.half().float()).flatten(-2)
