"""Weights rounded as a .pte holds them, for quantization-aware training."""

import torch
from torch import Tensor

from firsttoken.backends.weight_rounding import Rounding


class XnnpackInt4Rounding(Rounding):
    """torchao's int4 as XNNPACK keeps it in a .pte: scales of groups in bfloat16, of whole rows in float32."""

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def rounded(self, weight: Tensor) -> Tensor:
        """What the file's integers stand for, float32 ``[rows, columns]``."""
        from torchao.quantization import IntxUnpackedToInt8Tensor

        made = IntxUnpackedToInt8Tensor.from_hp(weight, (1, self.group), torch.int4)  # type: ignore[attr-defined]  # PyTorch's stubs lack int4
        scale = made.scale if self.group == weight.shape[1] else made.scale.bfloat16().float()
        return (made.qdata.unflatten(1, (-1, self.group)) * scale[:, :, None]).flatten(1)
