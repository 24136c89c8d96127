"""A checkpoint's weights in memory in FP32, and what a model remembers between calls: four bytes a weight."""

from typing import Any

import torch
from torch import Tensor

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder, DeltaRule, Factor, Norm
from firsttoken.decoder.walk import convolution_states, leaves, recurrent_states, states
from firsttoken.weight_source import Source

FLAT = (Norm, Factor, DeltaRule)  # their weights have one dimension


class TorchWeights:
    """Weights and biases by the names of their parts; ``cache`` holds keys and values ``[cache_length, kv_heads, head_dim]`` by core, ``inputs``
    the last inputs ``[rows, channels]`` by convolution, ``memory`` the state ``[heads, key_dim, value_dim]`` by delta rule. With ``only``,
    the parts whose names begin so are read, and no others."""

    def __init__(self, checkpoint: Checkpoint, decoder: Decoder, cache_length: int, only: str = "") -> None:
        self.checkpoint = checkpoint
        self.biases: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}
        self._read: dict[Source, Tensor] = {}  # a tied head is the embedding's own tensor
        for name, part in leaves(decoder):
            if name.startswith(only):
                self._take(name, part)
        self.cache = {
            state.name: tuple(torch.zeros(cache_length, state.kv_heads, state.head_dim) for _ in range(2))
            for state in states(decoder)
            if state.name.startswith(only)
        }
        self.inputs = {
            kept.name: torch.zeros(kept.rows, kept.channels) for kept in convolution_states(decoder) if kept.name.startswith(only)
        }
        self.memory = {
            kept.name: torch.zeros(kept.heads, kept.key_dim, kept.value_dim)
            for kept in recurrent_states(decoder)
            if kept.name.startswith(only)
        }

    def _take(self, name: str, part: Any) -> None:
        source, bias = part.decay if isinstance(part, DeltaRule) else getattr(part, "weight", None), getattr(part, "bias", None)
        if source is not None:
            if source not in self._read:
                rows = torch.from_numpy(self.checkpoint.rows(source).copy())
                self._read[source] = rows.reshape(-1) if isinstance(part, FLAT) else rows
            self._weights[name] = self._read[source]
        if bias is not None:
            self.biases[name] = torch.from_numpy(self.checkpoint.vector(bias).copy())

    def __getitem__(self, name: str) -> Tensor:
        return self._weights[name]

    def replace(self, name: str, weight: Tensor) -> None:
        """Puts another weight of the same shape in a layer's place."""
        self._weights[name] = weight
