"""The decoder as Hexagon takes it: the CPU graphs' layers with fixed shapes, and everything that the NPU gets wrong left to the host.

``first_N``: up to N tokens from position 0, nothing cached. ``extend_N``: up to N more over the cache. ``decode``: one
token over the cache. What differs from the CPU graphs, and why (measured, docs/hexagon.md):

- embedding rows are fed: the compiler refuses an int8 table
- cos and sin are fed in FP32: an angle in FP16 is off by up to a radian at position 3,000
- the cache is only read, and new rows are returned: DYNAMIC_UPDATE_SLICE is accepted and writes to the wrong rows
- every shape is fixed: a run-time dimension is silently compiled at one length
- the cache comes and goes in float32, cast in the graph: LiteRT's Kotlin interface reads no float16 output whole
"""

import numpy as np

from firsttoken.backends.tflite.decoder_graph import MASKED, DecoderGraph, DecoderWeights
from firsttoken.backends.tflite.graph import Type
from firsttoken.backends.tflite.model_file import ModelFile


def graph_names(prefill_lengths: tuple[int, ...]) -> list[tuple[str, str, int]]:
    """Returns ``(name, kind, tokens)`` of every graph: each length from position 0, the longest one over the cache, and decode."""
    longest = prefill_lengths[-1]
    return [*((f"first_{n}", "first", n) for n in prefill_lengths), (f"extend_{longest}", "extend", longest), ("decode", "decode", 1)]


class HexagonGraph(DecoderGraph):
    """One graph for the NPU; ``tokens`` per call and ``cached`` rows are fixed numbers."""

    def __init__(self, file: ModelFile, name: str, kind: str, weights: DecoderWeights, tokens: int, cached: int):
        super().__init__(file, name, weights, tokens, cached)
        self.cached = kind != "first"
        self.S, self.C = tokens, cached

    def _inputs(self):
        dim = self.config.head_dim
        self.rows = self.input("embedding", [self.S, self.config.hidden_size], Type.FLOAT32)
        self.turn = tuple(self.input(name, [self.S, 1, dim], Type.FLOAT32) for name in ("cos", "sin"))
        if self.S != 1:
            self.last = self.input("last", [1], Type.INT32)
        if self.cached:
            self.cache_mask = self.input("cache_mask", [1, self.C], Type.FLOAT32)
        self._cache_inputs()

    def cache_type(self, layer: int) -> int:
        return Type.FLOAT32

    def _embedding(self) -> int:
        return self.rows

    def _cos_sin(self) -> tuple[int, int]:
        return self.turn

    def _masks(self):
        """Causal mask ``[S, S]`` as a constant, and its row for the last real token: what follows that is padding."""
        self.scope = "mask"
        self.own_mask = self.last_mask = None
        if self.S > 1:
            self.own_mask = self.constant(np.triu(np.full((self.S, self.S), MASKED), 1))
            self.last_mask = self.gather_rows(self.own_mask, self.last)

    def _attend(self, n: int, q: int, k: int, v: int, core: int, single: bool) -> int:
        """Attention over the cache and the call's own rows side by side, so that neither is copied."""
        scores = self.matmul(q, k, transpose_b=True)
        own_mask = self.last_mask if single else self.own_mask
        if own_mask is not None:
            scores = self.add(scores, self.convert(own_mask, core))
        if not self.cached:
            return self.matmul(self.softmax(scores), v)
        keys, values = (self.from_cache(c, n) for c in self.cache[n])
        over_cache = self.add(self.matmul(q, keys, transpose_b=True), self.convert(self.cache_mask, core))
        weights = self.softmax(self.concatenate([over_cache, scores], 3))
        lead = self.shapes[weights][:-1]
        from_cache = self.slice(weights, [0, 0, 0, 0], [*lead, self.C])
        from_own = self.slice(weights, [0, 0, 0, self.C], [*lead, self.S])
        return self.add(self.matmul(from_cache, values), self.matmul(from_own, v))
