"""The traversal's operations in numpy, in FP32, over a cache in memory."""

from collections.abc import Mapping

import numpy as np

from firsttoken.decoder.walk import Named


class NumpyOps:
    """One call of ``tokens`` ``[S]`` at ``position``; ``weights`` by name, ``cache`` holds ``[length, kv_heads, head_dim]`` twice by core."""

    def __init__(self, weights: Mapping[str, np.ndarray], cache: Mapping[str, np.ndarray], tokens: np.ndarray, position: int):
        self.weights, self.cache, self.tokens = weights, cache, tokens
        self.begin, self.end = position, position + len(tokens)

    def enter(self, name: str) -> None:
        pass  # nothing here goes by the place in the tree

    def embed(self, embedding: Named) -> np.ndarray:
        return self.weights[embedding.name][self.tokens]

    def norm(self, norm: Named, x: np.ndarray) -> np.ndarray:
        return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(norm.epsilon)) * self.weights[norm.name]

    def linear(self, linear: Named, x: np.ndarray) -> np.ndarray:
        product = x @ self.weights[linear.name].T
        return product if linear.bias is None else product + self.weights[f"{linear.name}.bias"]

    def narrow(self, layer: Named, normed: np.ndarray, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return normed[-1:], residual[-1:]

    def last(self, x: np.ndarray) -> np.ndarray:
        return x

    def add(self, residual: np.ndarray, x: np.ndarray) -> np.ndarray:
        return residual + x

    def activate(self, kind: str, x: np.ndarray) -> np.ndarray:
        return x / (1 + np.exp(-np.maximum(x, np.float32(-80))))

    def multiply(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a * b

    def split_heads(self, x: np.ndarray, heads: int, head_dim: int) -> np.ndarray:
        return x.reshape(len(x), heads, head_dim)

    def scale(self, x: np.ndarray, by: float) -> np.ndarray:
        return x * np.float32(by)

    def into_core(self, attention: Named, which: str, x: np.ndarray) -> np.ndarray:
        return x

    def rotate(self, attention: Named, which: str, x: np.ndarray) -> np.ndarray:
        rope = attention.rotation
        angles = rope.angles(np.arange(self.end - len(x), self.end))[:, None]
        scale = rope.factors * np.float32(attention.rotated_scale if which == "q" else 1)
        cos, sin = np.cos(angles) * scale, np.sin(angles) * scale
        first, second = np.split(x, 2, -1)
        return np.concatenate((first * cos - second * sin, second * cos + first * sin), -1)

    def attend(self, core: Named, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
        cache = self.cache[core.name]
        cache[:, self.begin : self.end] = key, value
        keys, values = (t[: self.end].repeat(core.part.group, 1).transpose(1, 0, 2) for t in cache)  # [heads, positions, head_dim]
        scores = query.transpose(1, 0, 2) @ keys.transpose(0, 2, 1)
        asking = np.arange(self.end - len(query), self.end)
        scores[:, np.arange(self.end) > asking[:, None]] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = weights / weights.sum(-1, keepdims=True) @ values
        return mixed.transpose(1, 0, 2).reshape(len(query), core.part.query_size)
