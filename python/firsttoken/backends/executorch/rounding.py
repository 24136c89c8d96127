"""Weights rounded as a .pte holds them, for quantization-aware training."""

import torch
from torch import Tensor

from firsttoken.backends.weight_rounding import Rounding


class XnnpackInt4Rounding(Rounding):
    """torchao's int4 groups as XNNPACK keeps them in a .pte: the scales in bfloat16."""

    def __init__(self, group_size: int) -> None:
        super().__init__()
        self.group_size = group_size

    def rounded(self, weight: Tensor) -> Tensor:
        """What the file's integers stand for, float32 ``[rows, columns]``."""
        from torchao.quantization import IntxUnpackedToInt8Tensor

        made = IntxUnpackedToInt8Tensor.from_hp(weight, (1, self.group_size), torch.int4)  # type: ignore[attr-defined]  # PyTorch's stubs lack int4
        return (made.qdata.unflatten(1, (-1, self.group_size)) * made.scale.bfloat16().float()[:, :, None]).flatten(1)
