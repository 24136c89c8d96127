"""Weights rounded as an .onnx file holds them, and inputs as its kernels round them, for quantization-aware training."""

import torch
from torch import Tensor
from torch.nn import functional

from firsttoken.backends.onnx.quantize import SMALLEST_BOUND, block_of
from firsttoken.backends.weight_rounding import Rounding
from firsttoken.precisions import PRECISIONS


class BlockRounding(Rounding):
    """As `backends.onnx.quantize` does."""

    def __init__(self, precision: str, group: int) -> None:
        super().__init__()
        self.precision, self.group = precision, group

    def rounded(self, weight: Tensor) -> Tensor:
        """What the file's integers stand for, float32 ``[rows, columns]``."""
        columns = weight.shape[1]
        most = (1 << (PRECISIONS[self.precision].bits - 1)) - 1
        grouped = PRECISIONS[self.precision].scales == "group"
        size = self.group if grouped else block_of(self.precision, columns, columns)
        padded = functional.pad(weight, (0, -columns % size)).unflatten(1, (-1, size))
        if grouped:
            largest = padded.gather(2, padded.abs().argmax(2, keepdim=True))
            scale = torch.where(largest.abs() < float(SMALLEST_BOUND), float(SMALLEST_BOUND), largest) / (-most - 1)
        else:
            scale = padded.abs().amax(2, keepdim=True).clamp_min(float(SMALLEST_BOUND)) / most
        least = -most if self.precision == "int8" else -most - 1
        return (torch.round(padded / scale).clamp(least, most) * scale).flatten(1)[:, :columns]


class StatesRounding(Rounding):
    """Inputs rounded to int8 with one scale for every ``block`` columns of a token, as MatMulNBits does."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block

    def rounded(self, weight: Tensor) -> Tensor:
        """What a layer multiplies by, float32 ``[..., columns]``."""
        columns = weight.shape[-1]
        grouped = functional.pad(weight, (0, -columns % self.block)).unflatten(-1, (-1, self.block))
        scale = (grouped.abs().amax(-1, keepdim=True) / 127).clamp_min(torch.finfo(torch.float32).tiny)
        return (torch.round(grouped / scale) * scale).flatten(-2)[..., :columns]
