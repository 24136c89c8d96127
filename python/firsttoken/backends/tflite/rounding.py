"""Weights rounded as a .tflite holds them, for quantization-aware training."""

from torch import Tensor

from firsttoken.backends.tflite.quantize import SMALLEST_BOUND
from firsttoken.backends.weight_rounding import Rounding

SMALLEST_SCALE = 6e-8  # the smallest float16 above zero


class TfliteRounding(Rounding):
    """As `backends.tflite.quantize` does."""

    def __init__(self, precision: str, group: int) -> None:
        super().__init__()
        self.precision, self.group = precision, group

    def rounded(self, weight: Tensor) -> Tensor:
        """What the file's integers stand for, float32 ``[rows, columns]``."""
        if self.precision == "int8":
            scale = weight.abs().amax(1, keepdim=True).clamp_min(float(SMALLEST_BOUND)) / 127
            return (weight / scale).round().clamp(-127, 127) * scale
        grouped = weight.unflatten(1, (-1, self.group))
        scale = grouped.abs().amax(2, keepdim=True).clamp_min(float(SMALLEST_BOUND)) / 7
        if self.group != weight.shape[1]:
            scale = scale.bfloat16().half().float().clamp_min(SMALLEST_SCALE)
        return ((grouped / scale).round().clamp(-8, 7) * scale).flatten(1)
