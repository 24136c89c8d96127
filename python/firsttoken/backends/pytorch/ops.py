"""The traversal's operations as plain PyTorch in FP32, over a cache that grows with the call.

Sources of the formulas: RMSNorm arXiv 1910.07467, RoPE arXiv 2104.09864, grouped-query attention arXiv 2305.13245.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as functional
from torch import Tensor

from firsttoken.backends.pytorch.weights import TorchWeights
from firsttoken.decoder import forward
from firsttoken.decoder.parts import Coefficients, Convolution, Core, Cutoff, DeltaRule, Router
from firsttoken.decoder.walk import Named

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "relu2": lambda x: functional.relu(x).square(),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class TorchOps:
    """One call of ``tokens`` int64 ``[S]`` at ``position``; values are float32 ``[S, hidden_size]``."""

    def __init__(self, weights: TorchWeights, tokens: Tensor, position: int) -> None:
        self.weights, self.tokens = weights, tokens
        self.begin, self.end = position, position + len(tokens)

    def enter(self, name: str) -> None:
        pass  # nothing here goes by the place in the tree

    def embed(self, embedding: Named) -> Tensor:
        tokens = torch.where(self.tokens < embedding.rows, self.tokens, 0)  # a table of layers may have fewer rows than the vocabulary
        return self.weights[embedding.name][tokens]

    def norm(self, norm: Named, x: Tensor) -> Tensor:
        if norm.centred:
            x = x - x.mean(-1, keepdim=True)
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.epsilon)
        if norm.weight is not None:
            x = x * self.weights[norm.name]
        return x if norm.bias is None else x + self.weights.biases[norm.name]

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

    def scale(self, x: Tensor, by: float) -> Tensor:
        return x * by

    def rotate(self, attention: Named, which: str, x: Tensor) -> Tensor:
        rope = attention.rotation
        frequencies = torch.tensor(rope.inverse_frequencies)
        angles = torch.arange(self.end - len(x), self.end, dtype=torch.float32)[:, None, None] * frequencies
        factors = torch.from_numpy(rope.factors)
        cos, sin = angles.cos() * factors, angles.sin() * factors
        first, second = x.chunk(2, -1)
        turned = torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
        return turned * attention.rotated_scale if which == "q" else turned

    def into_core(self, attention: Named, which: str, x: Tensor) -> Tensor:
        return x

    def convolve(self, kernel: Named[Convolution], gate: Tensor | None, value: Tensor, narrowed: bool) -> Tensor:
        before = self.weights.inputs[kernel.name]
        known = torch.cat((before if self.begin else torch.zeros_like(before), value if gate is None else gate * value))
        self.weights.inputs[kernel.name] = known[-len(before) :]
        weight, bias = self.weights[kernel.name].unsqueeze(1), self.weights.biases.get(kernel.name)
        mixed = functional.conv1d(known.t()[None], weight, bias, groups=len(weight))[0].t()
        return mixed[-1:] if narrowed else mixed

    def attend(self, core: Named[Core], query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keys, values = self.weights.cache[core.name]
        keys[self.begin : self.end], values[self.begin : self.end] = key, value
        return self.attend_shared(core, core, query)

    def attend_shared(self, core: Named[Core], owner: Named[Core], query: Tensor) -> Tensor:
        keys, values = self.weights.cache[owner.name]
        # [heads, positions, head_dim], each key/value head for its whole group
        keys, values = (t[: self.end].transpose(0, 1).repeat_interleave(core.part.group, 0) for t in (keys, values))
        distance = torch.arange(self.end - len(query), self.end)[:, None] - torch.arange(self.end)
        allowed = distance >= 0 if core.window is None else (distance >= 0) & (distance < core.window)
        scores = query.transpose(0, 1) @ keys.transpose(1, 2)
        if core.softcap is not None:
            scores = forward.cap(self, scores, core.softcap)
        mixed = torch.softmax(scores.masked_fill(~allowed, -torch.inf), -1) @ values
        return mixed.transpose(0, 1).reshape(len(query), core.part.query_size)

    def split_columns(self, x: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
        return x.split(sizes, -1)

    def delta_rule(
        self, rule: Named[DeltaRule], query: Tensor, key: Tensor, value: Tensor, strength: Tensor, forgetting: Tensor, narrowed: bool
    ) -> Tensor:
        part, state = rule.part, self.weights.memory[rule.name]
        if not self.begin:
            state = torch.zeros_like(state)
        query, key = (x.repeat_interleave(part.group, 1) for x in (query, key))
        kept = torch.exp(-self.weights[rule.name].exp() * functional.softplus(forgetting))[..., None, None]
        beta, found = strength.sigmoid()[..., None], torch.empty_like(value)
        for at in range(len(value)):
            state = state * kept[at]
            missed = beta[at] * (value[at] - torch.einsum("hkv,hk->hv", state, key[at]))
            state = state + key[at][:, :, None] * missed[:, None]
            found[at] = torch.einsum("hkv,hk->hv", state, query[at])
        self.weights.memory[rule.name] = state
        return found[-1:] if narrowed else found

    def join_heads(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def split_layers(self, x: Tensor, layers: int, size: int) -> Tensor:
        return x.view(len(x), layers, size)

    def narrow_layers(self, x: Tensor) -> Tensor:
        return x[-1:]

    def layer_input(self, x: Tensor, number: int) -> Tensor:
        return x[:, number]

    def multiply_by(self, factor: Named, x: Tensor) -> Tensor:
        return x * self.weights[factor.name]

    def stack(self, streams: list[Tensor]) -> Tensor:
        return torch.stack(streams, 1)

    def unstack(self, x: Tensor, count: int) -> list[Tensor]:
        return list(x.unbind(1))

    def match(self, part: Named, x: Tensor, like: Tensor) -> Tensor:
        own, wanted = (t.square().mean(-1, keepdim=True) for t in (x, like))
        return x * (wanted.sqrt() / own.clamp(min=part.floor).sqrt())

    def coefficients(self, part: Named[Coefficients], x: Tensor, first: bool = False) -> Tensor:
        rows = part.part.first if first else part.rows
        return functional.linear(x, self.weights[part.name][:rows], torch.tensor(part.offset[:rows]))

    def mix(self, factors: Tensor, x: Tensor) -> Tensor:
        mixed = factors.view(len(x), -1, x.shape[1]) @ x
        return mixed.squeeze(1) if mixed.shape[1] == 1 else mixed

    def spread(self, x: Tensor, factors: Tensor | None, streams: int) -> Tensor:
        factors = (torch.arange(streams) > 0).float()[None] if factors is None else factors
        return factors[:, :, None] * x[:, None]

    def subtract(self, a: Tensor, b: Tensor) -> Tensor:
        return a - b

    def cut_off(self, part: Named[Cutoff], x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return functional.relu(centred - centred.square().mean(-1, keepdim=True).sqrt() * part.deviations)

    def weigh_experts(self, router: Named[Router], x: Tensor, inner: Tensor) -> Tensor:
        part, scored = router.part, functional.linear(x, self.weights[router.name])
        scores = scored.softmax(-1) if part.scores == "softmax" else scored.sigmoid()
        ranked = scores + self.weights.biases[router.name] if part.bias is not None else scores
        best = torch.sort(ranked, dim=-1, descending=True, stable=True).indices[:, : part.chosen]
        weights = torch.zeros_like(scores).scatter(1, best, scores.gather(1, best))
        if part.divided:
            weights = weights / (weights.sum(-1, keepdim=True) + part.epsilon)
        return (inner.view(len(x), part.experts, -1) * (weights * part.factor)[:, :, None]).flatten(1)
