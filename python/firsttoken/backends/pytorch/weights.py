"""A checkpoint's weights in memory in FP32, and the KV cache: four bytes a weight."""

import torch
from torch import Tensor

from firsttoken.checkpoint import Checkpoint, Source
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import convolution_states, convolutions, factors, norms, plan_layers, states


class TorchWeights:
    """Weights and biases by the names of their parts; ``cache`` holds keys and values ``[cache_length, kv_heads, head_dim]`` by core, ``inputs``
    the last inputs ``[rows, channels]`` by convolution. With ``only``, the parts whose names begin so are read, and no others."""

    def __init__(self, checkpoint: Checkpoint, decoder: Decoder, cache_length: int, only: str = "") -> None:
        def chosen(parts: list) -> list:
            return [(name, part) for name, part in parts if name.startswith(only)]

        read: dict[Source, Tensor] = {}  # a tied head is the embedding's own tensor
        self.biases: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}
        for name, norm in chosen(norms(decoder)):
            if norm.weight is not None:
                self._weights[name] = torch.from_numpy(checkpoint.vector(norm.weight).copy())
            if norm.bias is not None:
                self.biases[name] = torch.from_numpy(checkpoint.vector(norm.bias).copy())
        for name, factor in chosen(factors(decoder)):
            self._weights[name] = torch.from_numpy(checkpoint.vector(factor.weight).copy())
        for name, kernel in chosen(convolutions(decoder)):
            self._weights[name] = torch.from_numpy(checkpoint.matrix(kernel.weight).copy())
            if kernel.bias is not None:
                self.biases[name] = torch.from_numpy(checkpoint.vector(kernel.bias).copy())
        for layer in plan_layers(decoder):
            if layer.weight is None or not layer.name.startswith(only):
                continue
            if layer.weight not in read:
                read[layer.weight] = torch.from_numpy(checkpoint.matrix(layer.weight).copy())
            self._weights[layer.name] = read[layer.weight]
            if layer.bias is not None:
                self.biases[layer.name] = torch.from_numpy(checkpoint.vector(layer.bias).copy())
        self.cache = {
            state.name: tuple(torch.zeros(cache_length, state.kv_heads, state.head_dim) for _ in range(2))
            for state in states(decoder)
            if state.name.startswith(only)
        }
        self.inputs = {
            state.name: torch.zeros(state.rows, state.channels) for state in convolution_states(decoder) if state.name.startswith(only)
        }

    def __getitem__(self, name: str) -> Tensor:
        return self._weights[name]

    def replace(self, name: str, weight: Tensor) -> None:
        """Puts another weight of the same shape in a layer's place."""
        self._weights[name] = weight
