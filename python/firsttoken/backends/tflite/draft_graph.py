"""The graph that checks drafts: as `decode`, but for a few tokens at once, with the logits of each.

Every row is computed by the sums of `decode` in their order, so that XNNPACK gives it the same bits: scores and values of the call's own tokens
are put at the rows of the cache that will be theirs (still zero) by ``slot`` ``[S, C]``, 1 there and else 0; a token's own value is left out of
the sum over the cache and added behind it, as `decode` adds it. The host appends the rows of as many tokens as it keeps.
"""

import numpy as np

from firsttoken.backends.host_inputs import CHECK, of_window
from firsttoken.backends.tflite.graph import NUMPY_TYPES, Type
from firsttoken.backends.tflite.model_file import ModelFile
from firsttoken.backends.tflite.ops import TfliteOps
from firsttoken.backends.tflite.weights import DecoderWeights
from firsttoken.decoder.parts import Core, Decoder
from firsttoken.decoder.walk import Named


class DraftOps(TfliteOps):
    """``tokens`` are the one that is known and the drafted ones behind it: a fixed number, since shapes that change cost more than rows in vain."""

    def __init__(self, file: ModelFile, decoder: Decoder, weights: DecoderWeights, tokens: int, cached: int) -> None:
        super().__init__(file, CHECK, decoder, weights, tokens, cached)
        self.S = tokens
        self._inputs_of: dict[tuple[int | None, int, int], tuple[int, int]] = {}  # slots and masks, by window, type and group

    def _inputs(self) -> None:
        self.tokens = self.input("tokens", [self.S], Type.INT32)
        self.positions = self.input("positions", [self.S], Type.FLOAT32)
        self.cache_masks = {
            window: self.input(of_window("cache_mask", window), [self.S, self.cache_rows(window)], Type.FLOAT32) for window in self.windows
        }
        self.slots = {
            window: self.input(of_window("slot", window), [self.S, self.cache_rows(window)], Type.FLOAT32) for window in self.windows
        }
        self._cache_inputs()

    def _masks(self) -> None:
        self.own_masks, self.last_masks = {}, {}

    def narrow(self, layer: Named, normed: int, residual: int) -> tuple[int, int]:
        return normed, residual

    def narrow_layers(self, x: int) -> int:
        return x

    def _given(self, core: Named[Core]) -> tuple[int, int]:
        """The slots, and the mask repeated for every query head of a group, as a core takes them."""
        window, kind, group = core.window, self.core_compute(core.name), core.part.group
        if (window, kind, group) not in self._inputs_of:
            slot = self.convert(self.slots[window], kind)
            masks = [self.convert(self.cache_masks[window], kind)] * group
            mask = masks[0] if group == 1 else self.concatenate(masks, 0)
            self._inputs_of[window, kind, group] = self.reshape(slot, [1, 1, *self.shapes[slot]]), mask
        return self._inputs_of[window, kind, group]

    def _square(self, core: Named[Core], rows: np.ndarray) -> int:
        """A constant ``[S, S]`` for every query head of a group."""
        return self.constant(np.tile(rows, (core.part.group, 1))[None, None], NUMPY_TYPES[self.core_compute(core.name)])

    def _attend(self, core: Named[Core], q: int, k: int, v: int, single: bool) -> int:
        """All query heads of a group are rows of one product, ``[kv heads, 1, group * S, …]``."""
        part, kind = core.part, self.core_compute(core.name)
        keys, values = (self.from_cache(c, core.name) for c in self.cache[self._owners[core.name]])
        slot, mask = self._given(core)
        own, before = self._square(core, np.eye(self.S)), self._square(core, np.tri(self.S, k=-1))
        q = self.reshape(q, [part.kv_heads, 1, part.group * self.S, part.head_dim])
        kept_k, kept_v = (self.convert(self.convert(x, self.cache_type(core.name)), kind) for x in (k, v))
        among = self.matmul(q, k, transpose_b=True)
        if kept_k != k:  # a later token finds in the cache what has been rounded for it
            rounded = self.matmul(q, kept_k, transpose_b=True)
            among = self.add(self.multiply(among, own), self.multiply(rounded, before))
        placed = self.matmul(among, slot)
        if core.softcap is None:
            scores = self.add(self.add(self.matmul(q, keys, transpose_b=True), mask), placed)
        else:
            scores = self.add(self._capped(core, self.add(self.matmul(q, keys, transpose_b=True), placed)), mask)
        p = self.softmax(scores)
        shares = self.matmul(p, slot, transpose_b=True)
        if core.window is None:
            # the sum's order: the cache's rows, the zero rows of this call, then its tokens one after the other, as they would lie in the cache
            mixed = self.matmul(self.concatenate([p, self.multiply(shares, before)], 3), self.concatenate([values, kept_v], 2))
        else:  # in a ring they may lie before others
            own_places = slot if part.group == 1 else self.concatenate([slot] * part.group, 2)
            others = self.subtract(p, self.multiply(p, own_places))
            mixed = self.matmul(others, self.add(values, self.matmul(self.transpose(slot, [0, 1, 3, 2]), kept_v)))
        mixed = self.add(mixed, self.matmul(self.multiply(shares, own), v))
        return self.reshape(mixed, [part.kv_heads, part.group, self.S, part.head_dim])
