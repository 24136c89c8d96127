"""The decoder as Hexagon takes it: the CPU graphs' layers with fixed shapes, and everything that the NPU gets wrong left to the host.

``first_N``: up to N tokens from position 0, nothing cached. ``extend_N``: up to N more over the cache. ``decode``: one
token over the cache. What differs from the CPU graphs, and why (measured, docs/hexagon.md):

- embedding rows are fed: the compiler refuses an int8 table
- cos and sin are fed in FP32: an angle in FP16 is off by up to a radian at position 3,000
- the cache is only read, and new rows are returned: DYNAMIC_UPDATE_SLICE is accepted and writes to the wrong rows
- every shape is fixed: a run-time dimension is silently compiled at one length
- the cache comes and goes in float32, cast in the graph: LiteRT's Kotlin interface reads no float16 output whole
- norms divide by the largest value before they square: in FP16 the square of 256 is infinite, and real models have tokens with thousands
- layers on int4 rows take and give float16: with float32 on either side the compiler refuses them
"""

import math

import numpy as np

from firsttoken.backends.host_inputs import rotation_inputs
from firsttoken.backends.runner import MASKED
from firsttoken.backends.tflite.graph import Op, Type
from firsttoken.backends.tflite.model_file import ModelFile
from firsttoken.backends.tflite.ops import TfliteOps
from firsttoken.backends.tflite.weights import DecoderWeights
from firsttoken.decoder.parts import Core, Decoder
from firsttoken.decoder.rope import Rope
from firsttoken.decoder.walk import RING_SLACK, Named, rotations

SMALLEST_ROW = 1e-3  # a row whose values are all smaller is not made larger: of padding all are zero


def graph_names(prefill_lengths: tuple[int, ...]) -> list[tuple[str, str, int]]:
    """Returns ``(name, kind, tokens)`` of every graph: each length from position 0, the longest one over the cache, and decode."""
    longest = prefill_lengths[-1]
    return [*((f"first_{n}", "first", n) for n in prefill_lengths), (f"extend_{longest}", "extend", longest), ("decode", "decode", 1)]


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
        self._cache_masks()
        self._cache_inputs()

    def cache_rows(self, window: int | None) -> int:
        return self.C if window is None else min(self.C, window + RING_SLACK)

    def cache_type(self, core: str) -> int:
        return Type.FLOAT32

    def computes_in_fp16(self, precision: str) -> bool:
        return precision == "int4" or super().computes_in_fp16(precision)

    def to_unit_size(self, x: int, epsilon: float) -> int:
        """The same of every row ``x / m``, m its largest magnitude, with ``epsilon / m^2``; rows of zeros stay zeros.

        By ``1 / sqrt(m)`` twice: ``1 / m`` of a large m is less than the NPU keeps, which makes it 0.
        """
        largest = self.maximum(self.largest_last(self.unary(Op.ABS, x)), self.constant(np.full((1, 1), SMALLEST_ROW)))
        smaller = self.unary(Op.RSQRT, largest)
        x, root = (
            self.multiply(self.multiply(value, smaller), smaller) for value in (x, self.constant(np.full((1, 1), math.sqrt(epsilon))))
        )
        mean = self.add(self.mean_last(self.multiply(x, x)), self.multiply(root, root))
        return self.multiply(x, self.unary(Op.RSQRT, mean))

    def embed(self, embedding: Named) -> int:
        return self.rows

    def _cos_sin(self, number: int, rope: Rope) -> tuple[int, int]:
        return self.turns[number]

    def _masks(self) -> None:
        """Causal masks ``[S, S]`` as constants, by window, and the row of each for the last real token: what follows that is padding."""
        self.enter("mask")
        self.own_masks, self.last_masks = {}, {}
        for window in self.windows if self.S > 1 else ():
            self.own_masks[window] = self.constant(own_mask(self.S, window))
            if window in self.last_windows:  # unused, the compiler would make it an output
                self.last_masks[window] = self.gather_rows(self.own_masks[window], self.last_index)

    def _attend(self, core: Named[Core], q: int, k: int, v: int, single: bool) -> int:
        """Attention over the cache and the call's own rows side by side, so that neither is copied."""
        window = core.window
        scores = self._capped(core, self.matmul(q, k, transpose_b=True))
        mask = (self.last_masks if single else self.own_masks).get(window)
        if mask is not None:
            scores = self.add(scores, mask)
        if not self.cached:
            return self.matmul(self.softmax(scores), v)
        keys, values = (self.from_cache(c, core.name) for c in self.cache[core.name])
        over_cache = self.add(self._capped(core, self.matmul(q, keys, transpose_b=True)), self._cache_mask(window, single))
        weights = self.softmax(self.concatenate([over_cache, scores], 3))
        lead, rows = self.shapes[weights][:-1], self.cache_rows(window)
        from_cache = self.slice(weights, [0, 0, 0, 0], [*lead, rows])
        from_own = self.slice(weights, [0, 0, 0, rows], [*lead, self.S])
        return self.add(self.matmul(from_cache, values), self.matmul(from_own, v))

    def _cache_mask(self, window: int | None, single: bool) -> int:
        mask = self.cache_masks[window]
        return self.gather_rows(mask, self.last_index) if single and self.S > 1 and window is not None else mask


def own_mask(tokens: int, window: int | None) -> np.ndarray:
    """The additive mask float32 ``[tokens, tokens]`` of a call's own rows."""
    distance = np.arange(tokens)[:, None] - np.arange(tokens)
    hidden = (distance < 0) if window is None else (distance < 0) | (distance >= window)
    return np.where(hidden, np.float32(MASKED), np.float32(0))
