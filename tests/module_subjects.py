"""Small modules that tests export, and a target for the backend of `backends/third_party`."""

from pathlib import Path

import torch
from torch import nn

TARGET = """
summary = "numpy on the CPU"
runtime = "numpy"
delegate = "blas"
cache_length = 128
prefill_chunk = 48
min_runtime = "2.0"
"""


class Pictures(nn.Module):
    """``[batch, 2, 6, 6]`` to three classes: a convolution, a depthwise one, a linear layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.each, self.head = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Linear(16, 3)

    def forward(self, picture):
        return self.head(self.each(self.first(picture).relu()).flatten(1))


class Words(nn.Module):
    """Ids and a mask ``[batch, length]`` to logits and states, by name: tables, attention, LayerNorm."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.places, self.norm, self.head = nn.Embedding(50, 8), nn.Embedding(64, 8), nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, ids, mask):
        x = self.table(ids) + self.places(torch.arange(ids.shape[1]))
        x = self.norm(nn.functional.scaled_dot_product_attention(x, x, x) * mask[..., None])
        return {"logits": self.head(x.mean(1)), "states": x}


def picture_program(path: Path) -> Path:
    """Writes `Pictures` as a .pt2 whose batch may vary."""
    batch = {0: torch.export.Dim("batch", min=1, max=1024)}
    torch.export.save(torch.export.export(Pictures().eval(), (torch.randn(2, 2, 6, 6),), dynamic_shapes=(batch,)), path)
    return path


def words_program() -> tuple[torch.export.ExportedProgram, tuple[torch.Tensor, ...]]:
    """`Words` with batch and length that may vary, and its example."""
    batch, length = torch.export.Dim("batch", min=1, max=1024), torch.export.Dim("length", min=1, max=64)
    example = (torch.randint(0, 50, (2, 12)), torch.ones(2, 12))
    return torch.export.export(Words().eval(), example, dynamic_shapes=({0: batch, 1: length}, {0: batch, 1: length})), example
