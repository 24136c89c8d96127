"""The traversal's operations as torch.export traces them for XNNPACK: one call of S tokens, which leaves T filled rows in the cache."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional
from torch import Tensor

from firsttoken.backends.runner import MASKED
from firsttoken.decoder.parts import Core
from firsttoken.decoder.walk import Named

if TYPE_CHECKING:
    from firsttoken.backends.executorch.model import DecoderModule


class ExecutorchOps:
    """Values are ``[1, S, hidden_size]``. What depends on the position alone is worked out once for all layers."""

    def __init__(self, model: "DecoderModule", tokens: Tensor, rows: Tensor) -> None:
        self.model, self.tokens, self.rows = model, tokens, rows
        # One symbol: a sum of two would have to be proven to fit the cache again in every slice of it.
        filled = (rows[-1:] + 1).item()
        assert isinstance(filled, int | torch.SymInt), "a sum of int64 is one"
        torch._check(filled >= 1)
        torch._check(filled <= model.cache_length)
        self.filled = filled
        self.mask = causal_mask(rows, filled)
        self.tables = {
            key: tuple(getattr(model, name)[self.rows].view(1, -1, 1, getattr(model, name).shape[1]) for name in names)
            for key, names in model.tables.items()
        }
        self._masks: dict[tuple[torch.dtype, int], Tensor] = {}
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
        return self.model.get_submodule(embedding.name)(self.tokens).to(torch.float32)

    def norm(self, norm: Named, x: Tensor) -> Tensor:
        return self.model.get_submodule(norm.name)(self.cast(x, torch.float32))

    def linear(self, linear: Named, x: Tensor) -> Tensor:
        return self.model.get_submodule(linear.name)(self.cast(x, self.model.dtypes[linear.name]))

    def narrow(self, layer: Named, normed: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return normed, residual  # XNNPACK takes no row out of a run-time number of them

    def last(self, x: Tensor) -> Tensor:
        return x[:, -1:, :]

    def add(self, residual: Tensor, x: Tensor) -> Tensor:
        return residual + x.to(torch.float32)

    def activate(self, kind: str, x: Tensor) -> Tensor:
        return functional.silu(x)

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b if a.dtype == b.dtype else a.to(torch.float32) * b.to(torch.float32)

    def split_heads(self, x: Tensor, heads: int, head_dim: int) -> Tensor:
        return x.view(1, -1, heads, head_dim)

    def into_core(self, attention: Named, which: str, x: Tensor) -> Tensor:
        core = self.model.dtypes[attention.core.name]
        if which == "v":
            return x.to(core)
        rope = attention.rotation
        normed = (attention.q_norm if which == "q" else attention.k_norm) is not None
        x = x.to(self.model.rotation_dtype(attention.name, which, normed))
        cos, sin = self.tables[rope, attention.core.scale if which == "q" else 1.0, x.dtype]
        turned = functional.linear(x, getattr(self.model, self.model.matrix_name(attention.core.head_dim, x.dtype)))
        return (x * cos + turned * sin).to(core)

    def attend(self, core: Named[Core], query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.model.get_submodule(core.name)(query, key, value, self.rows, self.filled, self._mask(query.dtype, core.part.group))

    def _mask(self, dtype: torch.dtype, group: int) -> Tensor:
        """The mask with a row for each query head of a group, ``[S * group, T]``."""
        if (dtype, group) not in self._masks:
            expanded = self.mask.to(dtype).unsqueeze(1).expand(-1, group, -1)
            self._masks[dtype, group] = expanded.reshape(-1, self.filled)
        return self._masks[dtype, group]


def causal_mask(rows: Tensor, filled: int | torch.SymInt) -> Tensor:
    """Mask float32 ``[S, T]`` of tokens at int64 ``rows [S]``: 0 for the T = ``filled`` columns up to their own, `MASKED` behind.

    In arithmetic that XNNPACK takes; a comparison would run on ExecuTorch's portable kernel. Positions are exact below 2^24.
    """
    columns = torch.arange(filled).to(torch.float32)  # type: ignore[arg-type]  # PyTorch's stubs lack SymInt
    behind = torch.clamp(rows.to(torch.float32).view(-1, 1) - columns, -1.0, 0.0)
    return behind * -MASKED
