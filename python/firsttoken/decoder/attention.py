"""Grouped-query attention with rotary position embedding, in constructs that XNNPACK takes with dynamic lengths.

Why it looks as it does: XNNPACK refuses a view to a symbolic size (a literal -1 is fine), any slice of a tensor with
a dynamic dimension, and a cast; so rotation is a multiplication by a constant matrix, heads are regrouped by views,
and casts stand only where the precisions of two neighbours differ.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from firsttoken.decoder.config import DecoderConfig
from firsttoken.decoder.norm import RmsNorm
from firsttoken.decoder.rotary import Place


def compute_dtype(precision: str) -> torch.dtype:
    """The dtype of a layer's inputs and outputs: float16 for fp16, else float32 (int8 and int4 quantize inside)."""
    return torch.float16 if precision == "fp16" else torch.float32


def rotation_matrix(head_dim: int) -> Tensor:
    """Matrix R with ``linear(x, R) = concat(-x[half:], x[:half])``; its entries are 0, 1 and -1, so it is exact."""
    half = head_dim // 2
    matrix = torch.zeros(head_dim, head_dim, device="cpu")
    index = torch.arange(half, device="cpu")
    matrix[index, index + half] = -1.0
    matrix[index + half, index] = 1.0
    return matrix


class Core(nn.Module):
    """Scores, softmax and weighted sum over a KV cache, all in one dtype; it has no weights.

    With ``cache_length`` 0 there is no cache: a call sees its own tokens only.
    """

    def __init__(self, config: DecoderConfig, cache_length: int, dtype: torch.dtype):
        super().__init__()
        self.config, self.cached = config, cache_length > 0
        if self.cached:
            # One row more than is ever used: torch.export cannot express a slice that may reach the whole buffer.
            shape = (1, cache_length + 1, config.kv_head_count, config.head_dim)
            self.register_buffer("keys", torch.zeros(shape, dtype=dtype, device="cpu"))
            self.register_buffer("values", torch.zeros(shape, dtype=dtype, device="cpu"))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, place: Place, mask: Tensor) -> Tensor:
        """Takes query ``[1, S, heads, head_dim]`` (scaled), key and value ``[1, S, kv_heads, head_dim]``, mask ``[S * group, T]``.

        Returns ``[1, S, heads * head_dim]``.
        """
        kv_heads, head_dim, group = self.config.kv_head_count, self.config.head_dim, self.config.group_size
        if self.cached:
            self.keys.index_copy_(1, place.rows, key)
            self.values.index_copy_(1, place.rows, value)
            key, value = self.keys[:, : place.filled], self.values[:, : place.filled]
        key = key.view(-1, kv_heads, head_dim).permute(1, 2, 0)
        value = value.view(-1, kv_heads, head_dim).permute(1, 0, 2)
        # Every key/value head serves its whole group of query heads in one product: [kv_heads, S * group, head_dim].
        query = query.view(-1, kv_heads, group * head_dim).permute(1, 0, 2).contiguous().view(kv_heads, -1, head_dim)
        weights = torch.softmax(torch.bmm(query, key) + mask, -1)
        mixed = torch.bmm(weights, value)  # bmm, not matmul, which would add copies
        mixed = mixed.view(kv_heads, -1, group * head_dim).permute(1, 0, 2).contiguous()
        return mixed.view(1, -1, self.config.query_size)


class Attention(nn.Module):
    """q, k, v, rotation, core and output; ``precisions`` maps q, k, v, core and output to a precision."""

    def __init__(self, config: DecoderConfig, cache_length: int, precisions: Mapping[str, str]):
        super().__init__()
        self.config = config
        self.dtypes = {name: compute_dtype(precisions[name]) for name in ("q", "k", "v", "core", "output")}

        def linear(name: str, columns: int, rows: int, bias: bool) -> nn.Linear:
            return nn.Linear(columns, rows, bias=bias, dtype=self.dtypes[name]).requires_grad_(False)

        self.q = linear("q", config.hidden_size, config.query_size, config.qkv_bias)
        self.k = linear("k", config.hidden_size, config.kv_size, config.qkv_bias)
        self.v = linear("v", config.hidden_size, config.kv_size, config.qkv_bias)
        self.q_norm = RmsNorm(config.head_dim, config.norm_epsilon) if config.qk_norm else None
        self.k_norm = RmsNorm(config.head_dim, config.norm_epsilon) if config.qk_norm else None
        self.core = Core(config, cache_length, self.dtypes["core"])
        self.output = linear("output", config.query_size, config.hidden_size, config.output_bias)
        for dtype in self.rotates_in:
            matrix = rotation_matrix(config.head_dim).to(dtype)
            self.register_buffer(f"rotation_{str(dtype).removeprefix('torch.')}", matrix, persistent=False)

    def rotation_dtype(self, name: str) -> torch.dtype:
        """The dtype that q or k is rotated in: float16 if it comes as float16 and the core takes it so, else float32."""
        narrow = self.dtypes[name] == self.dtypes["core"] == torch.float16 and not self.config.qk_norm
        return torch.float16 if narrow else torch.float32

    @property
    def rotates_in(self) -> list[torch.dtype]:
        return sorted({self.rotation_dtype("q"), self.rotation_dtype("k")}, key=str)

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotates ``[1, S, heads, head_dim]``: RoPE in the half-split layout of Hugging Face checkpoints."""
        matrix = getattr(self, f"rotation_{str(x.dtype).removeprefix('torch.')}")
        return x * cos + functional.linear(x, matrix) * sin

    def forward(self, x: Tensor, place: Place) -> Tensor:
        """Takes and returns float32 ``[1, S, hidden_size]``."""
        config = self.config
        inputs = {torch.float32: x}
        if torch.float16 in (self.dtypes["q"], self.dtypes["k"], self.dtypes["v"]):
            inputs[torch.float16] = x.to(torch.float16)
        query = self.q(inputs[self.dtypes["q"]]).view(1, -1, config.head_count, config.head_dim)
        key = self.k(inputs[self.dtypes["k"]]).view(1, -1, config.kv_head_count, config.head_dim)
        value = self.v(inputs[self.dtypes["v"]]).view(1, -1, config.kv_head_count, config.head_dim)
        query, key = query.to(self.rotation_dtype("q")), key.to(self.rotation_dtype("k"))
        if config.qk_norm:
            query, key = self.q_norm(query), self.k_norm(key)
        query_cos, query_sin, _, _ = place.rotations[query.dtype]
        _, _, key_cos, key_sin = place.rotations[key.dtype]
        core = self.dtypes["core"]
        query, key = self.rotate(query, query_cos, query_sin).to(core), self.rotate(key, key_cos, key_sin).to(core)
        mixed = self.core(query, key, value.to(core), place, place.masks[core])
        return self.output(mixed.to(self.dtypes["output"])).to(torch.float32)
