"""Where a call's tokens stand: rotary tables, cache rows and masks, worked out once per call for all layers."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from firsttoken.decoder.config import DecoderConfig

MASKED = -60_000.0  # near the lowest float16; far enough from any score that its exponential is 0


@dataclass
class Place:
    """What every layer needs to know of one call of S tokens that may see T positions.

    ``rows`` int64 ``[S]``: their positions, which are also their rows in the cache. ``filled``: T. ``rotations``:
    by dtype, cos and sin for queries (scaled by head_dim^-0.5) and for keys, each ``[1, S, 1, head_dim]``.
    ``masks``: by dtype ``[S * group_size, T]``, one row for each query head of a group.
    """

    rows: Tensor
    filled: int
    rotations: dict[torch.dtype, tuple[Tensor, Tensor, Tensor, Tensor]]
    masks: dict[torch.dtype, Tensor]


class Places(nn.Module):
    """Tables for positions ``0..length - 1``, in the dtypes that the layers rotate and mask in."""

    def __init__(self, config: DecoderConfig, length: int, rotate_in=(torch.float32,), mask_in=(torch.float32,)):
        super().__init__()
        self.group_size, self.mask_in = config.group_size, tuple(mask_in)
        angles = config.rope.angles(np.arange(length))
        angles = np.concatenate([angles, angles], axis=1)
        cos, sin = (torch.from_numpy((table * config.rope.factor).astype(np.float32)) for table in (np.cos(angles), np.sin(angles)))
        scale = config.head_dim**-0.5  # of the scores; here it costs nothing
        self.rotate_in = {}
        for dtype in rotate_in:
            names = [f"{name}_{str(dtype).removeprefix('torch.')}" for name in ("query_cos", "query_sin", "key_cos", "key_sin")]
            for name, table in zip(names, (cos * scale, sin * scale, cos, sin), strict=True):
                self.register_buffer(name, table.to(dtype), persistent=False)
            self.rotate_in[dtype] = names

    def forward(self, position: Tensor, mask: Tensor) -> Place:
        """Takes int64 ``[1]``, the first token's position, and the float32 mask ``[S, T]`` added to the scores (0 or `MASKED`)."""
        length, filled = mask.shape
        rows = position + torch.arange(length)
        rotations = {
            dtype: tuple(getattr(self, name)[rows].view(1, -1, 1, getattr(self, name).shape[1]) for name in names)
            for dtype, names in self.rotate_in.items()
        }
        masks = {dtype: mask.to(dtype).unsqueeze(1).expand(-1, self.group_size, -1).reshape(-1, filled) for dtype in self.mask_in}
        return Place(rows, filled, rotations, masks)


def causal_mask(length: int, position: int = 0) -> Tensor:
    """Mask float32 ``[length, position + length]`` for ``length`` tokens after ``position`` cached ones."""
    return torch.full((length, position + length), MASKED).triu(1 + position)
