"""The decoder as one module that torch.export takes with dynamic lengths.

Module names are the tree's: ``embedding``, ``layers.N.attention.q``, ..., ``layers.N.mlp.down``, ``norm``, ``head``.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from firsttoken.backends.executorch.convolution import Convolution
from firsttoken.backends.executorch.core import Core, SharedCore, rotation_matrix
from firsttoken.backends.executorch.delta_rule import DeltaRule
from firsttoken.backends.executorch.experts import ExpertWeights
from firsttoken.backends.executorch.norm import FactorModule, norm_module
from firsttoken.backends.executorch.ops import ExecutorchOps
from firsttoken.backends.executorch.streams import CoefficientsModule, CutoffModule, stream_constants
from firsttoken.decoder import forward, parts
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.rope import Rope
from firsttoken.decoder.walk import Named, leaves, owners


def compute_dtype(precision: str) -> torch.dtype:
    """The dtype of a layer's inputs and outputs: float16 for fp16, else float32 (int8 and int4 quantize inside)."""
    return torch.float16 if precision == "fp16" else torch.float32


def short_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def attach(root: nn.Module, name: str, module: nn.Module) -> None:
    """Puts ``module`` at a dotted name, with plain modules for what stands between."""
    *path, last = name.split(".")
    for step in path:
        if not hasattr(root, step):
            root.add_module(step, nn.Module())
        root = getattr(root, step)
    root.add_module(last, module)


class DecoderModule(nn.Module):
    """A decoder with its KV cache in buffers.

    ``precisions`` maps every plan layer to a precision, as `Plan.resolve` returns it. Built under ``torch.device("meta")`` it
    takes no memory for weights; only constants, cache and tables are real.
    """

    later_streams: Tensor
    stream_mean: Tensor

    def __init__(self, decoder: Decoder, cache_length: int, precisions: Mapping[str, str], draft_tokens: int | None = None) -> None:
        super().__init__()
        self.decoder, self.cache_length, self.draft_tokens = decoder, cache_length, draft_tokens
        self.dtypes = {name: compute_dtype(precision) for name, precision in precisions.items()}
        owner = owners(decoder)
        for name, part in leaves(decoder):
            if owner.get(name, name) != name:
                attach(self, name, SharedCore(part))
                continue
            attach(self, name, self._module(name, part))
        for name, constant in stream_constants(decoder).items():
            self.register_buffer(name, constant, persistent=False)
        self.tables: dict[tuple[Rope, float, torch.dtype], tuple[str, str]] = {}
        for number, block in enumerate(decoder.layers):
            attention, at = block.attention, f"layers.{number}.attention"
            if attention is None:
                continue
            for which, by in (("q", attention.rotated_scale), ("k", 1.0)):
                if attention.rotation is not None and not (which == "k" and attention.shares is not None):
                    self._add_tables(attention.rotation, by, self.rotation_dtype(attention, at, which))

    def _module(
        self,
        name: str,
        part: parts.Embedding
        | parts.Linear
        | parts.Norm
        | parts.Factor
        | parts.Core
        | parts.Convolution
        | parts.DeltaRule
        | parts.Coefficients
        | parts.Cutoff
        | parts.Router,
    ) -> nn.Module:
        if isinstance(part, parts.Embedding):
            return nn.Embedding(part.rows, part.columns, dtype=self.dtypes[name]).requires_grad_(False)
        if isinstance(part, parts.Linear):
            return nn.Linear(part.columns, part.rows, bias=part.bias is not None, dtype=self.dtypes[name]).requires_grad_(False)
        if isinstance(part, parts.Norm):
            return norm_module(part)
        if isinstance(part, parts.Factor):
            return FactorModule(part.size)
        if isinstance(part, parts.Convolution):
            return Convolution(part)
        if isinstance(part, parts.DeltaRule):
            return DeltaRule(part)
        if isinstance(part, parts.Coefficients):
            return CoefficientsModule(part)
        if isinstance(part, parts.Cutoff):
            return CutoffModule(part)
        if isinstance(part, parts.Router):
            return ExpertWeights(part)
        return Core(part, self.cache_length, self.dtypes[name])

    def rotation_dtype(self, attention: parts.Attention, at: str, which: str) -> torch.dtype:
        """The dtype that q or k is rotated in: float16 if it comes as float16 and the core takes it so, else float32."""
        normed = (attention.q_norm if which == "q" else attention.k_norm) is not None
        narrow = self.dtypes[f"{at}.{which}"] == self.dtypes[f"{at}.core"] == torch.float16 and not normed
        return torch.float16 if narrow else torch.float32

    def _add_tables(self, rope: Rope, scale: float, dtype: torch.dtype) -> None:
        """cos and sin times the rotation's factor and ``scale`` of every position of the cache, ``[cache_length, head_dim]``, and the rotation's matrix."""
        key = rope, scale, dtype
        if key in self.tables:
            return
        angles = rope.angles(np.arange(self.cache_length))
        angles = np.concatenate([angles, angles], axis=1)
        names = f"cos_{len(self.tables)}", f"sin_{len(self.tables)}"
        for name, table in zip(names, (np.cos(angles), np.sin(angles)), strict=True):
            scaled = torch.from_numpy((table * np.resize(rope.factors, angles.shape[1])).astype(np.float32)) * scale
            self.register_buffer(name, scaled.to(dtype), persistent=False)
        self.tables[key] = names
        matrix = self.matrix_name(angles.shape[1], dtype)
        if not hasattr(self, matrix):
            self.register_buffer(matrix, rotation_matrix(angles.shape[1]).to(dtype), persistent=False)

    def matrix_name(self, head_dim: int, dtype: torch.dtype) -> str:
        return f"rotation_{head_dim}_{short_name(dtype)}"

    def norm_parameters(self, name: str) -> tuple[Tensor | None, Tensor | None]:
        """Weight and bias of the norm of this name."""
        norm = self.get_submodule(name)
        return getattr(norm, "weight", None), getattr(norm, "bias", None)

    def drop_tables(self) -> None:
        """Takes the rotary tables out, for a caller that is fed them."""
        for name in (name for name, _ in list(self.named_buffers(recurse=False))):
            delattr(self, name)
        self.tables.clear()

    def forward(self, tokens: Tensor, cache_position: Tensor) -> Tensor:
        """Appends S tokens to the cache and returns the last one's logits, float32 ``[1, 1, vocab_size]``; with ``draft_tokens`` those of so many more
        before it, as far as there are, ``[1, min(S, draft_tokens + 1), vocab_size]``.

        tokens: int64 ``[1, S]``. cache_position: int64 ``[S]``, their rows in the cache, one after the other; the first is
        the number of tokens already in it. A token looks at the rows up to its own.
        """
        ops = ExecutorchOps(self, tokens, cache_position)
        return forward.logits(ops, Named(self.decoder)).to(torch.float32)
