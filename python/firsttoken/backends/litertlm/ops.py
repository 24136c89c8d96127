"""The decoder under LiteRT-LM's signatures: ``prefill`` or ``prefill_N``, which fill the cache and return nothing else, and ``decode``.

The cache comes as input and goes as output of the same name, which LiteRT-LM binds to one buffer: the rows of a call are written into it
where they belong and all of it is attended to, under a mask that the host makes. Nothing relies on rows that were not written: a
rollback leaves old ones there. The last layer's attention and MLP and the head say nothing to the cache, so prefill leaves them out.
"""

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from firsttoken.backends.runner import MASKED
from firsttoken.backends.tflite.graph import Dynamic, Op, Type
from firsttoken.backends.tflite.model_file import ModelFile
from firsttoken.backends.tflite.ops import TfliteOps
from firsttoken.backends.tflite.weights import DecoderWeights
from firsttoken.decoder import forward, streams
from firsttoken.decoder.parts import Core, Decoder
from firsttoken.decoder.walk import Named, states

DECODE, PREFILL = "decode", "prefill"
CACHE = {"key": "kv_cache_k", "value": "kv_cache_v"}


def left_out(decoder: Decoder) -> Callable[[str, str], bool]:
    """Says of a signature and a layer, by their names, whether it does without: prefill ends with the last keys and values that are kept."""
    last = states(decoder)[-1].layer
    needed = {f"layers.{last}.attention.k", f"layers.{last}.attention.v"}

    def beyond(layer: str) -> bool:
        first, _, rest = layer.partition(".")
        if first == "layers":
            return int(rest.partition(".")[0]) >= last and layer not in needed
        return first in ("head", "streams_output") or (first == "per_layer" and not last)

    return lambda graph, layer: graph != DECODE and beyond(layer)


class LmOps(TfliteOps):
    """One signature. ``tokens`` and ``cached`` are lengths, or `Dynamic` where the host chooses them at run time."""

    row_step: ClassVar[int] = 1
    """Of how many rows a cache of fixed length is a multiple."""

    def __init__(self, file: ModelFile, name: str, decoder: Decoder, weights: DecoderWeights, tokens: int, cached: int) -> None:
        super().__init__(file, name, decoder, weights, int(tokens), int(cached))
        self.S, self.C = tokens, cached
        self._seen: dict[str, tuple[int, int]] = {}  # the whole cache with the call's rows, by the core that keeps it
        self.single = tokens == 1 and not isinstance(tokens, Dynamic)

    def build(self) -> None:
        self._inputs()
        self._rotations()
        self._masks()
        self.enter("embedding")
        model = Named(self.decoder)
        if self.name == DECODE:
            logits = self.convert(forward.logits(self, model), Type.FLOAT32)
            self.output("logits", self.reshape(logits, [1, 1, self.decoder.vocab_size]))
        else:
            self._fill(model)
        self.finish()

    def _fill(self, model: Named) -> None:
        """All that the cache needs: every layer before the last that keeps anything, and that one's keys and values."""
        x, end = forward.embedded(self, model), states(self.decoder)[-1].layer
        given = None if model.per_layer is None or not end else forward.layer_inputs(self, model.per_layer, x, len(model.layers))
        state = None if model.streams is None else streams.opened(self, model.streams, x)
        for number, layer in enumerate(model.layers[:end]):
            x, state = forward.step(self, layer, x, state, given, number)
        last = model.layers[end]
        if state is not None:
            x, _ = streams.predicted(self, last.updates, x, state)
        assert last.attention, "the backend refuses layers with a convolution"
        self.enter(last.attention.name)
        normed = forward.norm(self, last.attention_norm, x)
        self._append(last.attention.core, *forward.keys_and_values(self, last.attention, normed))

    def _inputs(self) -> None:
        tokens = self.input("tokens", [1, self.S], Type.INT32)
        self.places = positions = self.input("input_pos", [self.S], Type.INT32)
        self.mask = self.input("mask", [1, 1, self.S, self.C], Type.FLOAT32)
        self.enter("inputs")
        self.tokens = self.reshape(tokens, [self.S])
        self.positions = self.cast(positions, Type.FLOAT32)
        start = positions if self.single else self.slice(positions, [0], [1])
        zero = self.constant(np.zeros(1), np.int32)
        self.at = self.concatenate([zero, zero, start, zero], 0)
        self._cache_inputs()

    def _cache_inputs(self) -> None:
        self.cache: dict[str, tuple[int, int]] = {}
        for state in states(self.decoder):
            shape = [state.kv_heads, 1, self.C, state.head_dim]
            key, value = (self.input(f"{CACHE[which]}_{state.layer}", shape, self.cache_type(state.name)) for which in ("key", "value"))
            self.cache[state.name] = key, value

    def _masks(self) -> None:
        self.enter("mask")
        # LiteRT-LM writes -2.4e38, which FP16 would make an infinity
        whole = self.maximum(self.mask, self.constant(np.full((1, 1, 1, 1), MASKED)))
        self.call_masks = {window: whole if window is None else self._window_mask(whole, window) for window in self.windows}

    def _window_mask(self, whole: int, window: int) -> int:
        """The host's mask, and `MASKED` for the rows ``window`` and more before a token's own."""
        row = self.reshape(self.positions, [1, 1, self.S, 1])
        distance = self.subtract(row, self._columns())
        step = self.constant(np.full((1, 1, 1, 1), -MASKED))
        outside = self.multiply(self.subtract(self.constant(np.full((1, 1, 1, 1), window - 1)), distance), step)
        floor = self.constant(np.full((1, 1, 1, 1), MASKED))
        return self.minimum(whole, self.maximum(outside, floor))

    def _columns(self) -> int:
        """0, 1, 2, … over the cache's rows, ``[1, 1, 1, C]``: ones added up where the host chooses how many there are."""
        if "columns" not in self._tensors:
            if isinstance(self.C, Dynamic):
                first = self.mask if self.single else self.slice(self.mask, [0, 0, 0, 0], [1, 1, 1, self.C])
                ones = self.add(self.multiply(first, self.constant(np.zeros((1, 1, 1, 1)))), self.constant(np.ones((1, 1, 1, 1))))
                self._tensors["columns"] = self.cumulative_sum(ones)
            else:
                self._tensors["columns"] = self.constant(np.arange(self.C, dtype=np.float32).reshape(1, 1, 1, -1))
        return self._tensors["columns"]

    def narrow(self, layer: Named, normed: int, residual: int) -> tuple[int, int]:
        return normed, residual

    def _append(self, core: Named[Core], key: int, value: int) -> tuple[int, int]:
        """Writes the call's rows into the cache, ``[kv heads, 1, C, head_dim]``, and returns all of it."""
        layer, kept = self._layers[core.name], []
        for which, cache, rows in zip(CACHE, self.cache[core.name], (key, value), strict=True):
            rows = rows if self.single else self.transpose(rows, [1, 0, 2])
            rows = self.convert(self.reshape(rows, [core.part.kv_heads, 1, self.S, core.part.head_dim]), self.cache_type(core.name))
            whole = self.operator(Op.DYNAMIC_UPDATE_SLICE, [cache, rows, self.at], self.shapes[cache], self.dtype(cache))
            self.output(f"{CACHE[which]}_{layer}", whole)
            kept.append(whole)
        return kept[0], kept[1]

    def attend(self, core: Named[Core], query: int, key: int, value: int) -> int:
        q = self._heads_of(core, query)
        self._seen[core.name] = self._append(core, key, value)
        return self._attend_to(core, core, q)

    def attend_shared(self, core: Named[Core], owner: Named[Core], query: int) -> int:
        return self._attend_to(core, owner, self._heads_of(core, query))

    def _heads_of(self, core: Named[Core], query: int) -> int:
        heads = [core.part.kv_heads, core.part.group, core.part.head_dim]
        if self.single:
            return self.reshape(query, [heads[0], 1, *heads[1:]])
        return self.transpose(self.reshape(query, [self.S, *heads]), [1, 2, 0, 3])

    def _attend_to(self, core: Named[Core], owner: Named[Core], q: int) -> int:
        part, (k, v) = core.part, self._seen[owner.name]
        outer = self.scope
        self.enter(core.name)
        k, v = self.from_cache(k, core.name), self.from_cache(v, core.name)
        scores = self._capped(core, self.matmul(q, k, transpose_b=True))
        mixed = self._weighted(core, scores, v)
        self.enter(outer)
        if not self.single:
            mixed = self.transpose(mixed, [2, 0, 1, 3])
        return self.reshape(mixed, [self.S, part.query_size])

    def _weighted(self, core: Named[Core], scores: int, values: int) -> int:
        """Values weighted by the softmax of masked scores, ``[kv heads, group, S, head_dim]``."""
        return self.matmul(self.softmax(self.add(scores, self.call_masks[core.part.window])), values)
