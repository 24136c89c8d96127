"""What a network costs, counted."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def multiply_adds(model: nn.Module, example: tuple[Tensor, ...]) -> int:
    """Multiplications with an addition for one sample, in convolutions and matrix products, by torch's counter (two operations each)."""
    model = model.eval()
    with FlopCounterMode(display=False) as counter:
        model(*(given[:1] for given in example))
    return counter.get_total_flops() // 2
