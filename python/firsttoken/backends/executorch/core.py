"""Scores, softmax and weighted sum over a KV cache, and the rotation, in constructs that XNNPACK takes with dynamic lengths.

Why they look as they do: XNNPACK refuses a view to a symbolic size (a literal -1 is fine), any slice of a tensor with a
dynamic dimension, and a cast; so rotation is a multiplication by a constant matrix, heads are regrouped by views, and
casts stand only where the precisions of two neighbours differ.
"""

import torch
from torch import Tensor, nn

from firsttoken.decoder import parts


def rotation_matrix(head_dim: int) -> Tensor:
    """Matrix R with ``linear(x, R) = concat(-x[half:], x[:half])``; its entries are 0, 1 and -1, so it is exact."""
    half = head_dim // 2
    matrix = torch.zeros(head_dim, head_dim, device="cpu")
    index = torch.arange(half, device="cpu")
    matrix[index, index + half] = -1.0
    matrix[index + half, index] = 1.0
    return matrix


class Core(nn.Module):
    """The attention core of one layer with its cache, all in one dtype; it has no weights."""

    keys: Tensor
    values: Tensor

    def __init__(self, part: parts.Core, cache_length: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.part = part
        # One row more than is ever used: torch.export cannot express a slice that may reach the whole buffer.
        shape = (1, cache_length + 1, part.kv_heads, part.head_dim)
        self.register_buffer("keys", torch.zeros(shape, dtype=dtype, device="cpu"))
        self.register_buffer("values", torch.zeros(shape, dtype=dtype, device="cpu"))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, rows: Tensor, filled: int | torch.SymInt, mask: Tensor) -> Tensor:
        """Takes query ``[1, S, heads, head_dim]`` (scaled), key and value ``[1, S, kv_heads, head_dim]``, int64 ``rows [S]`` (their
        places in the cache), T = ``filled`` and mask ``[S * group, T]``; returns ``[1, S, heads * head_dim]``."""
        self.keys.index_copy_(1, rows, key)
        self.values.index_copy_(1, rows, value)
        return mix(self.part, query, *self.seen(filled), mask)

    def seen(self, filled: int | torch.SymInt) -> tuple[Tensor, Tensor]:
        """Keys ``[kv_heads, head_dim, T]`` and values ``[kv_heads, T, head_dim]`` of the filled rows."""
        kv_heads, head_dim = self.part.kv_heads, self.part.head_dim
        key = self.keys[:, :filled].view(-1, kv_heads, head_dim).permute(1, 2, 0)
        value = self.values[:, :filled].view(-1, kv_heads, head_dim).permute(1, 0, 2)
        return key, value


class SharedCore(nn.Module):
    """The core of a layer that looks at an earlier one's cache."""

    def __init__(self, part: parts.Core) -> None:
        super().__init__()
        self.part = part

    def forward(self, query: Tensor, owner: Core, filled: int | torch.SymInt, mask: Tensor) -> Tensor:
        """As `Core`, with what ``owner`` has written in this call."""
        key, value = owner.seen(filled)
        return mix(self.part, query, key.to(query.dtype), value.to(query.dtype), mask)


def mix(part: parts.Core, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    kv_heads, head_dim, group = part.kv_heads, part.head_dim, part.group
    # Every key/value head serves its whole group of query heads in one product: [kv_heads, S * group, head_dim].
    query = query.view(-1, kv_heads, group * head_dim).permute(1, 0, 2).contiguous().view(kv_heads, -1, head_dim)
    scores = torch.bmm(query, key)
    if part.softcap is not None:
        scores = torch.tanh(scores * (1 / part.softcap)) * part.softcap
    weights = torch.softmax(scores + mask, -1)
    mixed = torch.bmm(weights, value)  # bmm, not matmul, which would add copies
    mixed = mixed.view(kv_heads, -1, group * head_dim).permute(1, 0, 2).contiguous()
    return mixed.view(1, -1, part.query_size)
