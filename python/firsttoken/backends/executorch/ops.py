"""The traversal's operations as torch.export traces them for XNNPACK: one call of S tokens, which leaves T filled rows in the cache."""

import math
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional
from torch import Tensor

from firsttoken.backends.executorch.delta_rule import Triangles
from firsttoken.backends.executorch.streams import StreamsOps
from firsttoken.backends.runner import MASKED
from firsttoken.decoder.parts import Convolution, Core, DeltaRule, Router
from firsttoken.decoder.walk import Named, shares, windows

if TYPE_CHECKING:
    from firsttoken.backends.executorch.model import DecoderModule


STEP = 128  # rows


class ExecutorchOps(StreamsOps):
    """Values are ``[1, S, hidden_size]``. What depends on the position alone is worked out once for all layers."""

    def __init__(self, model: "DecoderModule", tokens: Tensor, rows: Tensor) -> None:
        self.model, self.tokens, self.rows = model, tokens, rows
        # One symbol: a sum of two would have to be proven to fit the cache again in every slice of it.
        filled = (rows[-1:] + 1 if model.draft_tokens is None else rounded_up(rows, model.cache_length)).item()
        assert isinstance(filled, int | torch.SymInt), "a sum of int64 is one"
        torch._check(filled >= 1)
        torch._check(filled <= model.cache_length)
        self.filled = filled
        self.masks = {window: causal_mask(rows, filled, window) for window in windows(model.decoder)}
        self.tables = {
            key: tuple(getattr(model, name)[self.rows].view(1, -1, 1, getattr(model, name).shape[1]) for name in names)
            for key, names in model.tables.items()
        }
        self.narrows = model.draft_tokens is None and any(shares(block) for block in model.decoder.layers)
        self._masks: dict[tuple[torch.dtype, int, int | None, bool], Tensor] = {}
        self._fresh: Tensor | None = None
        self._triangles: Triangles | None = None
        self._casts: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = {}

    def enter(self, name: str) -> None:
        pass  # a module's name is in the weights that are traced

    def cast(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """``x`` in another type, once for all who want it."""
        if x.dtype == dtype:
            return x
        if (id(x), dtype) not in self._casts:
            self._casts[id(x), dtype] = x, x.to(dtype)  # with x, so that its id stays its own
        return self._casts[id(x), dtype][1]

    def embed(self, embedding: Named) -> Tensor:
        tokens = self.tokens
        if embedding.rows < self.model.decoder.vocab_size:  # a table of layers may have fewer rows; tokens beyond them take the first
            tokens = torch.where(tokens < embedding.rows, tokens, 0)
        return self.model.get_submodule(embedding.name)(tokens).to(torch.float32)

    def norm(self, norm: Named, x: Tensor) -> Tensor:
        return self.model.get_submodule(norm.name)(self.cast(x, torch.float32))

    def linear(self, linear: Named, x: Tensor) -> Tensor:
        return self.model.get_submodule(linear.name)(self.cast(x, self.model.dtypes[linear.name]))

    def narrow(self, layer: Named, normed: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """A row out of a run-time number of them is taken outside XNNPACK: that pays where many layers follow, not for one."""
        return (normed[:, -1:], residual[:, -1:]) if self.narrows else (normed, residual)

    def last(self, x: Tensor) -> Tensor:
        drafted = self.model.draft_tokens
        if drafted is None:
            return x[:, -1:, :]
        tokens = self.rows[-1:] - self.rows[:1] + 1
        kept = torch.clamp(tokens, max=drafted + 1)
        count = kept.item()
        assert isinstance(count, int | torch.SymInt), "one of int64"
        torch._check(count >= 1)
        torch._check(count <= drafted + 1)
        return x[:, torch.arange(count) + (tokens - kept)]

    def add(self, residual: Tensor, x: Tensor) -> Tensor:
        return residual + x.to(torch.float32)

    def activate(self, kind: str, x: Tensor) -> Tensor:
        return ACTIVATIONS[kind](x)

    def scale(self, x: Tensor, by: float) -> Tensor:
        return x * by

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b if a.dtype == b.dtype else a.to(torch.float32) * b.to(torch.float32)

    def split_heads(self, x: Tensor, heads: int, head_dim: int) -> Tensor:
        return x.view(1, -1, heads, head_dim)

    def rotate(self, attention: Named, which: str, x: Tensor) -> Tensor:
        x = x.to(self.model.rotation_dtype(attention.part, attention.name, which))
        cos, sin = self.tables[attention.rotation, attention.rotated_scale if which == "q" else 1.0, x.dtype]
        if self._single(x):
            cos, sin = cos[:, -1:], sin[:, -1:]
        turned = functional.linear(x, getattr(self.model, self.model.matrix_name(attention.core.head_dim, x.dtype)))
        return x * cos + turned * sin

    def into_core(self, attention: Named, which: str, x: Tensor) -> Tensor:
        return x.to(self.model.dtypes[attention.core.name])

    def convolve(self, kernel: Named[Convolution], gate: Tensor | None, value: Tensor, narrowed: bool) -> Tensor:
        assert not narrowed, "`narrow` leaves all rows"
        if self._fresh is None:
            self._fresh = (self.rows[:1] == 0).view(1, 1, 1)
        x = value.to(torch.float32) if gate is None else gate.to(torch.float32) * value.to(torch.float32)
        return self.model.get_submodule(kernel.name)(x, self._fresh)

    def split_columns(self, x: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Slices of a run-time number of rows are taken outside XNNPACK."""
        ends = list(accumulate(sizes))
        return tuple(x[:, :, end - size : end] for size, end in zip(sizes, ends, strict=True))

    def delta_rule(
        self, rule: Named[DeltaRule], query: Tensor, key: Tensor, value: Tensor, strength: Tensor, forgetting: Tensor, narrowed: bool
    ) -> Tensor:
        assert not narrowed, "`narrow` leaves all rows"
        self._triangles = self._triangles or Triangles(self.rows)
        strength, forgetting = self.cast(strength, torch.float32), self.cast(forgetting, torch.float32)
        return self.model.get_submodule(rule.name)(query, key, value, strength, forgetting, self._triangles)

    def join_heads(self, x: Tensor) -> Tensor:
        return x.view(1, -1, x.shape[2] * x.shape[3])

    def attend(self, core: Named[Core], query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mask = self._mask(query, core.part)
        return self.model.get_submodule(core.name)(query, key, value, self.rows, self.filled, mask)

    def attend_shared(self, core: Named[Core], owner: Named[Core], query: Tensor) -> Tensor:
        mask = self._mask(query, core.part)
        return self.model.get_submodule(core.name)(query, self.model.get_submodule(owner.name), self.filled, mask)

    def split_layers(self, x: Tensor, layers: int, size: int) -> Tensor:
        return x.view(1, -1, layers, size)

    def narrow_layers(self, x: Tensor) -> Tensor:
        return x[:, -1:] if self.narrows else x

    def layer_input(self, x: Tensor, number: int) -> Tensor:
        return x[:, :, number]

    def multiply_by(self, factor: Named, x: Tensor) -> Tensor:
        return self.model.get_submodule(factor.name)(x)

    def weigh_experts(self, router: Named[Router], x: Tensor, inner: Tensor) -> Tensor:
        weights = self.model.get_submodule(router.name)(self.cast(x, torch.float32))
        split = inner.to(torch.float32).view(1, -1, router.experts, inner.shape[-1] // router.experts)
        return (split * weights.view(1, -1, router.experts, 1)).view(1, -1, inner.shape[-1])

    def _single(self, x: Tensor) -> bool:
        """Whether ``x`` is the last position's alone, by a length that is no longer a run-time one."""
        return self.narrows and isinstance(x.shape[1], int) and x.shape[1] == 1

    def _mask(self, query: Tensor, core: Core) -> Tensor:
        """The mask with a row for each query head of a group, ``[S * group, T]``."""
        single = self._single(query)
        key = query.dtype, core.group, core.window, single
        if key not in self._masks:
            mask = causal_mask(self.rows[-1:], self.filled, core.window) if single else self.masks[core.window]
            expanded = mask.to(query.dtype).unsqueeze(1).expand(-1, core.group, -1)
            self._masks[key] = expanded.reshape(-1, self.filled)
        return self._masks[key]


def rounded_up(rows: Tensor, cache_length: int) -> Tensor:
    """The number of filled rows ``[1]`` and what is missing to whole steps, all of it masked: a token's sums then run over equally many, in the same
    order, however many tokens its call has, and give the same bits."""
    return torch.clamp((torch.div(rows[-1:], STEP, rounding_mode="floor") + 1) * STEP, max=cache_length)


def gelu_tanh(x: Tensor) -> Tensor:
    """``x * sigmoid(2z)``, which is ``x/2 * (1 + tanh(z))``, with z = sqrt(2/pi) * (x + 0.044715 x^3), in operators that XNNPACK takes."""
    twice = 2 * math.sqrt(2 / math.pi)
    return x * torch.sigmoid(x * (x * x * (twice * 0.044715) + twice))


def relu2(x: Tensor) -> Tensor:
    positive = functional.relu(x)
    return positive * positive


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu_tanh": gelu_tanh,
    "relu2": relu2,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def causal_mask(rows: Tensor, filled: int | torch.SymInt, window: int | None = None) -> Tensor:
    """Mask float32 ``[S, T]`` of tokens at int64 ``rows [S]``: 0 for the T = ``filled`` columns up to their own, `MASKED` behind.

    With a ``window``, also `MASKED` for columns that lie so far before. In arithmetic that XNNPACK takes; a comparison would run on
    ExecuTorch's portable kernel. Positions are exact below 2^24.
    """
    columns = torch.arange(filled).to(torch.float32)  # type: ignore[arg-type]  # PyTorch's stubs lack SymInt
    distance = rows.to(torch.float32).view(-1, 1) - columns
    hidden = torch.clamp(distance, -1.0, 0.0)
    if window is not None:
        hidden = hidden - torch.clamp(distance - float(window - 1), 0.0, 1.0)
    return hidden * -MASKED
