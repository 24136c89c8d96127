"""The traversal's operations as plain PyTorch in FP32, over a cache that grows with the call.

Sources of the formulas: RMSNorm arXiv 1910.07467, RoPE arXiv 2104.09864, grouped-query attention arXiv 2305.13245.
"""

import torch
import torch.nn.functional as functional
from torch import Tensor

from firsttoken.backends.pytorch.weights import TorchWeights
from firsttoken.decoder.parts import Core
from firsttoken.decoder.walk import Named

ACTIVATIONS = {"silu": functional.silu}


class TorchOps:
    """One call of ``tokens`` int64 ``[S]`` at ``position``; values are float32 ``[S, hidden_size]``."""

    def __init__(self, weights: TorchWeights, tokens: Tensor, position: int) -> None:
        self.weights, self.tokens = weights, tokens
        self.begin, self.end = position, position + len(tokens)

    def enter(self, name: str) -> None:
        pass  # nothing here goes by the place in the tree

    def embed(self, embedding: Named) -> Tensor:
        return self.weights[embedding.name][self.tokens]

    def norm(self, norm: Named, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.epsilon) * self.weights[norm.name]

    def linear(self, linear: Named, x: Tensor) -> Tensor:
        return functional.linear(x, self.weights[linear.name], self.weights.biases.get(linear.name))

    def narrow(self, layer: Named, normed: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return normed[-1:], residual[-1:]

    def last(self, x: Tensor) -> Tensor:
        return x

    def add(self, residual: Tensor, x: Tensor) -> Tensor:
        return residual + x

    def activate(self, kind: str, x: Tensor) -> Tensor:
        return ACTIVATIONS[kind](x)

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b

    def split_heads(self, x: Tensor, heads: int, head_dim: int) -> Tensor:
        return x.view(len(x), heads, head_dim)

    def into_core(self, attention: Named, which: str, x: Tensor) -> Tensor:
        if which == "v":
            return x
        rope = attention.rotation
        frequencies = torch.tensor(rope.inverse_frequencies)
        angles = torch.arange(self.end - len(x), self.end, dtype=torch.float32)[:, None, None] * frequencies
        cos, sin = angles.cos() * rope.factor, angles.sin() * rope.factor
        first, second = x.chunk(2, -1)
        turned = torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
        return turned * attention.core.scale if which == "q" else turned

    def attend(self, core: Named[Core], query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keys, values = self.weights.cache[core.name]
        keys[self.begin : self.end], values[self.begin : self.end] = key, value
        # [heads, positions, head_dim], each key/value head for its whole group
        keys, values = (t[: self.end].transpose(0, 1).repeat_interleave(core.part.group, 0) for t in (keys, values))
        asking = torch.arange(self.end - len(query), self.end)
        allowed = torch.arange(self.end)[None] <= asking[:, None]
        mixed = functional.scaled_dot_product_attention(query.transpose(0, 1), keys, values, attn_mask=allowed, scale=1.0)
        return mixed.transpose(0, 1).reshape(len(query), core.part.query_size)
