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

from firsttoken.backends.runner import MASKED
from firsttoken.backends.tflite.graph import Type
from firsttoken.backends.tflite.model_file import ModelFile
from firsttoken.backends.tflite.ops import TfliteOps
from firsttoken.backends.tflite.weights import DecoderWeights
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.rope import Rope
from firsttoken.decoder.walk import Named, rotations


def graph_names(prefill_lengths: tuple[int, ...]) -> list[tuple[str, str, int]]:
    """Returns ``(name, kind, tokens)`` of every graph: each length from position 0, the longest one over the cache, and decode."""
    longest = prefill_lengths[-1]
    return [*((f"first_{n}", "first", n) for n in prefill_lengths), (f"extend_{longest}", "extend", longest), ("decode", "decode", 1)]


def rotation_inputs(number: int) -> tuple[str, str]:
    """The names of the inputs that take cos and sin of rotation ``number``."""
    return ("cos", "sin") if number == 0 else (f"cos.{number}", f"sin.{number}")


class HexagonOps(TfliteOps):
    """One graph for the NPU; ``tokens`` per call and ``cached`` rows are fixed numbers."""

    def __init__(self, file: ModelFile, name: str, kind: str, decoder: Decoder, weights: DecoderWeights, tokens: int, cached: int) -> None:
        super().__init__(file, name, decoder, weights, tokens, cached)
        self.cached = kind != "first"
        self.S, self.C = tokens, cached

    def _inputs(self) -> None:
        self.rows = self.input("embedding", [self.S, self.decoder.hidden_size], Type.FLOAT32)
        self.turns: list[tuple[int, int]] = []
        for number, rope in enumerate(rotations(self.decoder)):
            shape = [self.S, 1, 2 * len(rope.inverse_frequencies)]
            cos, sin = (self.input(name, shape, Type.FLOAT32) for name in rotation_inputs(number))
            self.turns.append((cos, sin))
        if self.S != 1:
            self.last_index = self.input("last", [1], Type.INT32)
        if self.cached:
            self.cache_mask = self.input("cache_mask", [1, self.C], Type.FLOAT32)
        self._cache_inputs()

    def cache_type(self, core: str) -> int:
        return Type.FLOAT32

    def embed(self, embedding: Named) -> int:
        return self.rows

    def _cos_sin(self, number: int, rope: Rope) -> tuple[int, int]:
        return self.turns[number]

    def _masks(self) -> None:
        """Causal mask ``[S, S]`` as a constant, and its row for the last real token: what follows that is padding."""
        self.enter("mask")
        self.own_mask = self.last_mask = None
        if self.S > 1:
            self.own_mask = self.constant(np.triu(np.full((self.S, self.S), MASKED), 1))
            self.last_mask = self.gather_rows(self.own_mask, self.last_index)

    def _attend(self, core: str, q: int, k: int, v: int, single: bool) -> int:
        """Attention over the cache and the call's own rows side by side, so that neither is copied."""
        scores = self.matmul(q, k, transpose_b=True)
        own_mask = self.last_mask if single else self.own_mask
        if own_mask is not None:
            scores = self.add(scores, own_mask)
        if not self.cached:
            return self.matmul(self.softmax(scores), v)
        keys, values = (self.from_cache(c, core) for c in self.cache[core])
        over_cache = self.add(self.matmul(q, keys, transpose_b=True), self.cache_mask)
        weights = self.softmax(self.concatenate([over_cache, scores], 3))
        lead = self.shapes[weights][:-1]
        from_cache = self.slice(weights, [0, 0, 0, 0], [*lead, self.C])
        from_own = self.slice(weights, [0, 0, 0, self.C], [*lead, self.S])
        return self.add(self.matmul(from_cache, values), self.matmul(from_own, v))
