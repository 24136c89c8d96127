"""The decoder as TFLite operators: three graphs over one set of weights.

``first``: a prompt from position 0, nothing cached. ``extend``: a later chunk over the cache. ``decode``: one token
over the cache. All return the last position's logits and only the new key/value rows, which the host appends. Of a convolution they take the
last inputs before the call's and return those to pass to the next.
Shapes: S is the number of tokens in the call, C the cache rows the host passes (at least those filled), both chosen
at run time; attention tensors are ``[kv heads, group, rows, head_dim]``, so that one key/value head serves its group
of query heads by broadcasting. Layers that see a window have rows of their own, a ring that the host keeps: which of them a token
sees, the host says in a mask ``[S, C]``; of layers that see all, one row for all tokens is enough.
"""

import math

import numpy as np

from firsttoken.backends.host_inputs import of_window
from firsttoken.backends.runner import MASKED
from firsttoken.backends.tflite.delta_rule import DeltaGraph
from firsttoken.backends.tflite.experts import ExpertsGraph
from firsttoken.backends.tflite.graph import NUMPY_TYPES, Dynamic, Op, Type
from firsttoken.backends.tflite.model_file import ModelFile
from firsttoken.backends.tflite.outliers import apart
from firsttoken.backends.tflite.static import static_linear
from firsttoken.backends.tflite.weights import DecoderWeights, to_float16
from firsttoken.decoder import forward
from firsttoken.decoder.parts import Core, Decoder
from firsttoken.decoder.rope import Rope
from firsttoken.decoder.walk import (
    RING_SLACK,
    Named,
    convolution_states,
    final_layer,
    owners,
    recurrent_states,
    rotations,
    states,
    windows,
)


class TfliteOps(DeltaGraph, ExpertsGraph):
    """One of the three graphs. `build` makes it; its inputs and outputs are then in ``inputs`` and ``outputs``."""

    def __init__(self, file: ModelFile, name: str, decoder: Decoder, weights: DecoderWeights, tokens: int, cached: int) -> None:
        super().__init__(file, name)
        self.decoder, self.weights = decoder, weights
        self.cached = name != "first"
        self.S = 1 if name == "decode" else Dynamic("tokens", tokens)
        self.C: int = Dynamic("cached", cached)
        self.windows = windows(decoder)
        last = [block.attention for block in decoder.layers[final_layer(decoder) :]]
        self.last_windows = {attention.core.window for attention in last if attention}  # of one query
        self._owners = owners(decoder)
        self._own_rows: dict[str, tuple[int, int]] = {}  # keys and values of the call's own tokens, by the core that made them
        self._seen_rows: dict[tuple[str, int], tuple[int, int]] = {}  # and with the cache before them
        self._casts: dict[tuple[int, int], int] = {}
        self._tensors: dict[object, int] = {}
        self._last_tables: dict[int, int] = {}
        self._layers = {state.name: state.layer for state in states(decoder)}
        self._window = {state.name: state.window for state in states(decoder)}
        self.rotations: dict[tuple[Rope, float], tuple[int, int]] = {}

    def build(self) -> None:
        self._inputs()
        self._rotations()
        self._masks()
        self.enter("embedding")
        logits = forward.logits(self, Named(self.decoder))
        self.output("logits", self.convert(logits, Type.FLOAT32))
        self.finish()

    def _inputs(self) -> None:
        self.tokens = self.input("tokens", [self.S], Type.INT32)
        self.positions = self.input("positions", [self.S], Type.FLOAT32)
        if self.S != 1:
            self.last_index = self.input("last", [1], Type.INT32)
        self._cache_masks()
        self.slots: dict[int | None, int] = {}
        for window in self.windows if self.name == "decode" else ():
            self.slots[window] = self.input(of_window("slot", window), [1, self.cache_rows(window)], Type.FLOAT32)
        self._cache_inputs()

    def _cache_masks(self) -> None:
        self.cache_masks: dict[int | None, int] = {}
        for window in self.windows if self.cached else ():
            shape = [1 if window is None else self.S, self.cache_rows(window)]
            self.cache_masks[window] = self.input(of_window("cache_mask", window), shape, Type.FLOAT32)

    def cache_rows(self, window: int | None) -> int:
        """How many rows are passed of the layers with this window."""
        return self.C if window is None else Dynamic(of_window("cached", window), min(self.C, window + RING_SLACK))

    def _cache_inputs(self) -> None:
        """Keys and values of every layer, by the name of its core."""
        self.cache: dict[str, tuple[int, int]] = {}
        for state in states(self.decoder) if self.cached else ():
            shape = [state.kv_heads, 1, self.cache_rows(state.window), state.head_dim]
            key, value = (self.input(f"{which}.{state.layer}", shape, self.cache_type(state.name)) for which in ("key", "value"))
            self.cache[state.name] = key, value
        self.remembered: dict[str, int] = {}
        for kept in convolution_states(self.decoder) if self.cached else ():
            self.remembered[kept.name] = self.input(f"convolution.{kept.layer}", [kept.rows, kept.channels], Type.FLOAT32)
        self.memory = {}
        for held in recurrent_states(self.decoder) if self.cached else ():
            self.memory[held.name] = self.input(f"recurrent.{held.layer}", [held.heads, held.key_dim, held.value_dim], Type.FLOAT32)

    # types

    def core_compute(self, core: str) -> int:
        """What scores, softmax and weighted sum of a core are computed in."""
        return self.weights.core_type(core) if self.weights.native_fp16 else Type.FLOAT32

    def cache_type(self, core: str) -> int:
        return self.weights.cache_type(core)

    def convert(self, x: int, dtype: int) -> int:
        """Casts ``x``, once per tensor and type."""
        if self.dtype(x) == dtype:
            return x
        if (x, dtype) not in self._casts:
            self._casts[x, dtype] = self._converted(x, dtype)
        return self._casts[x, dtype]

    def _converted(self, x: int, dtype: int) -> int:
        if self.dtype(x) == Type.FLOAT16 and dtype == Type.FLOAT32 and not self.weights.native_fp16:
            # Not CAST: when an input is resized, TFLite 2.16 takes its delegate back and gives every operator that reads FP16, but
            # for DEQUANTIZE, the output of that tensor's DEQUANTIZE instead; where there is none, nothing (-1), and it fails.
            return self.dequantize(x, f"{self.scope}/{len(self.subgraph.operators)}")
        return self.cast(x, dtype)

    # once per call

    def _rotations(self) -> None:
        """cos and sin of every position, ``[S, 1, head_dim]``, by rotation and factor; sin is signed so that rotate-half is a
        plain swap of halves. The queries' tables carry the scale of the scores."""
        self.enter("rotation")
        for number, (rope, layers) in enumerate(rotations(self.decoder).items()):
            tables = self._cos_sin(number, rope)
            turned = [attention for n in layers if (attention := self.decoder.layers[n].attention)]
            for scale in dict.fromkeys(f for attention in turned for f in (attention.rotated_scale, 1.0)):
                self.rotations[rope, scale] = tuple(self._times(t, rope, scale) for t in tables)  # type: ignore[assignment]

    def _times(self, table: int, rope: Rope, scale: float) -> int:
        """A table times the rotation's factor and the scale of the scores."""
        factors = rope.factors
        if len(factors) == 1:
            factor = rope.factor * scale
            return table if factor == 1 else self.multiply(table, self.constant(np.full((1, 1, 1), factor)))
        return self.multiply(table, self.constant(np.concatenate([factors, factors]).reshape(1, 1, -1) * scale))

    def _cos_sin(self, number: int, rope: Rope) -> tuple[int, int]:
        positions = self.reshape(self.positions, [self.S, 1, 1])
        angles = self.multiply(positions, self.constant(np.reshape(rope.inverse_frequencies, (1, 1, -1))))
        cos, sin = self.unary(Op.COS, angles), self.unary(Op.SIN, angles)
        return self.concatenate([cos, cos], 2), self.concatenate([self.unary(Op.NEG, sin), sin], 2)

    def _masks(self) -> None:
        """Additive masks by window: ``[S, S]`` for the call's own tokens, ``[S, C + S]`` with the cache before them."""
        self.enter("mask")
        self.own_masks: dict[int | None, int] = {}
        self.last_masks: dict[int | None, int] = {}
        if self.S == 1:
            return
        row, column = self.reshape(self.positions, [self.S, 1]), self.reshape(self.positions, [1, self.S])
        step = self.constant(np.full((1, 1), -MASKED))
        distance = self.subtract(row, column)
        difference = self.multiply(distance, step)
        zero, floor = self.constant(np.zeros((1, 1))), self.constant(np.full((1, 1), MASKED))
        for window in self.windows:
            allowed = difference
            if window is not None:
                outside = self.multiply(self.subtract(self.constant(np.full((1, 1), window - 1)), distance), step)
                allowed = self.minimum(difference, outside)
            own = self.maximum(self.minimum(allowed, zero), floor)
            if not self.cached:
                self.own_masks[window] = own
            elif window is None:
                if window in self.last_windows:
                    self.last_masks[window] = self.concatenate([self.cache_masks[window], self.multiply(column, zero)], 1)
                over_cache = self.add(self.multiply(row, zero), self.cache_masks[window])
                self.own_masks[window] = self.concatenate([over_cache, own], 1)
            else:
                self.own_masks[window] = self.concatenate([self.cache_masks[window], own], 1)

    def mask_of(self, window: int | None, single: bool) -> int | None:
        """The mask of all tokens, or of the last one alone; None where that one sees all that there is."""
        if not single or self.S == 1 or window is None:
            return (self.last_masks if single else self.own_masks).get(window)
        if window not in self.last_masks:
            self.last_masks[window] = self.gather_rows(self.own_masks[window], self.last_index)
        return self.last_masks[window]

    # the traversal's operations

    def embed(self, embedding: Named) -> int:
        weight, tokens = self.weights.matrices[embedding.name], self._tokens_of(embedding)
        if weight.precision == "int8":
            # Not EMBEDDING_LOOKUP: TFLite 2.16 gives wrong numbers for an int8 table with per-row scales.
            values = self.gather_rows(weight.raw_tensor(self), tokens, version=2)
            return self.multiply(self.cast(values, Type.FLOAT32), self.gather_rows(weight.scales_tensor(self), tokens))
        if weight.precision == "fp16" and not self.weights.native_fp16:
            # TFLite 2.16 cannot GATHER float16; the same bytes gathered as int16 and reinterpreted are exact.
            values = self.gather_rows(weight.raw_tensor(self, Type.INT16), tokens)
            return self.convert(self.operator(Op.BITCAST, [values], self.shapes[values], Type.FLOAT16), Type.FLOAT32)
        return self.convert(self.gather_rows(weight.raw_tensor(self), tokens), Type.FLOAT32)

    def _tokens_of(self, embedding: Named) -> int:
        """The call's tokens; 0 for those beyond a table of layers that has fewer rows than the vocabulary."""
        if embedding.rows >= self.decoder.vocab_size:
            return self.tokens
        known = self.operator(Op.LESS, [self.tokens, self.constant([embedding.rows], np.int32)], self.shapes[self.tokens], Type.BOOL)
        return self.multiply(self.tokens, self.cast(known, Type.INT32))

    def linear(self, linear: Named, x: int) -> int:
        """Casts the input to what the layer's kernel computes in, and returns that type."""
        name, weight = linear.name, self.weights.matrices[linear.name]
        half = self.computes_in_fp16(weight.precision)
        bias, bias_tensor = self.weights.vectors.get(f"{name}.bias"), -1
        if bias is not None:
            bias_tensor = self.constant(to_float16(bias, f"{name}.bias") if half else bias, np.float16 if half else np.float32)
        x = self.convert(x, Type.FLOAT16 if half else Type.FLOAT32)
        if name in self.weights.static:
            return static_linear(self, x, self._matrix(name), bias_tensor, self.weights.static[name])
        if name in self.weights.apart:
            return apart(self, x, self._matrix(name), bias_tensor)
        return self.fully_connected(x, self._matrix(name), bias_tensor)

    def computes_in_fp16(self, precision: str) -> bool:
        """Whether kernels on weights of this precision take and give FP16."""
        return precision == "fp16" and self.weights.native_fp16

    def _matrix(self, name: str) -> int:
        weight = self.weights.matrices[name]
        if name not in self._tensors:
            tensor = weight.tensor(self)
            if weight.precision == "fp16" and not self.weights.native_fp16:
                tensor = self.dequantize(tensor, f"{name}.dequantized")
            self._tensors[name] = tensor
        return self._tensors[name]

    def norm(self, norm: Named, x: int) -> int:
        """RMSNorm in FP32: x / sqrt(mean(x^2) + epsilon) * weight (arXiv 1910.07467), or LayerNorm."""
        x = self.convert(x, Type.FLOAT32)
        if norm.centred:
            x = self.subtract(x, self.mean_last(x))
        x = self.to_unit_size(x, norm.epsilon)
        if norm.weight is not None:
            x = self.multiply(x, self.constant(self.weights.vectors[norm.name]))
        return x if norm.bias is None else self.add(x, self.constant(self.weights.vectors[f"{norm.name}.bias"]))

    def to_unit_size(self, x: int, epsilon: float) -> int:
        """``x / sqrt(mean(x^2) + epsilon)`` over the last axis."""
        mean = self.mean_last(self.multiply(x, x))
        return self.multiply(x, self.unary(Op.RSQRT, self.add(mean, self.constant(np.full((1, 1), epsilon)))))

    def narrow(self, layer: Named, normed: int, residual: int) -> tuple[int, int]:
        if self.S == 1:
            return normed, residual
        rows = self.gather_rows(normed, self.last_index), self.gather_rows(residual, self.last_index)
        for table in self._tables(layer.attention, "q") if layer.attention and layer.attention.rotation else ():
            self._last_table(table)
        return rows

    def _last_table(self, table: int) -> int:
        """The last position's row of cos or sin."""
        if table not in self._last_tables:
            self._last_tables[table] = self.gather_rows(table, self.last_index)
        return self._last_tables[table]

    def last(self, x: int) -> int:
        return x

    def _tables(self, attention: Named, which: str) -> tuple[int, int]:
        return self.rotations[attention.rotation, attention.rotated_scale if which == "q" else 1.0]

    def add(self, a: int, b: int) -> int:
        return super().add(a, self.convert(b, self.dtype(a)))

    def multiply(self, a: int, b: int) -> int:
        return super().multiply(a, self.convert(b, self.dtype(a)))

    def scale(self, x: int, by: float) -> int:
        return self.multiply(x, self._number(x, by))

    def _number(self, x: int, value: float) -> int:
        """A number in the type of ``x``, with as many dimensions."""
        return self.constant(np.full((1,) * len(self.shapes[x]), value), NUMPY_TYPES[self.dtype(x)])

    def activate(self, kind: str, x: int) -> int:
        if kind == "tanh":
            return self.unary(Op.TANH, x)
        if kind == "sigmoid":
            return self.unary(Op.LOGISTIC, x)
        if kind == "relu2":
            positive = self.unary(Op.RELU, x)
            return self.multiply(positive, positive)
        if kind == "gelu_tanh":  # x * sigmoid(2z), which is x/2 * (1 + tanh(z)), with z = sqrt(2/pi) * (x + 0.044715 x^3)
            twice = 2 * math.sqrt(2 / math.pi)
            factor = self.add(self.scale(self.multiply(x, x), twice * 0.044715), self._number(x, twice))
            return self.multiply(x, self.unary(Op.LOGISTIC, self.multiply(x, factor)))
        assert kind == "silu", kind
        return self.multiply(x, self.unary(Op.LOGISTIC, x))

    def split_heads(self, x: int, heads: int, head_dim: int) -> int:
        return self.reshape(x, [self._rows(x), heads, head_dim])

    def rotate(self, attention: Named, which: str, x: int) -> int:
        x = self.convert(x, self.core_compute(attention.core.name))
        tables = self._tables(attention, which)
        if self.shapes[x][0] != self.S:  # the last position alone
            tables = self._last_table(tables[0]), self._last_table(tables[1])
        cos, sin = (self.convert(t, self.dtype(x)) for t in tables)
        first, second = self.split_halves(x)
        return self.add(self.multiply(x, cos), self.multiply(self.concatenate([second, first], 2), sin))

    def into_core(self, attention: Named, which: str, x: int) -> int:
        return self.convert(x, self.core_compute(attention.core.name))

    def attend(self, core: Named[Core], query: int, key: int, value: int) -> int:
        part, layer = core.part, self._layers[core.name]
        q = self._split_query(core, query)
        own = [part.kv_heads, 1, self.S, part.head_dim]
        k, v = (self.reshape(t if self.S == 1 else self.transpose(t, [1, 0, 2]), own) for t in (key, value))
        self.output(f"key.{layer}", self.convert(k, self.cache_type(core.name)))
        self.output(f"value.{layer}", self.convert(v, self.cache_type(core.name)))
        self._own_rows[core.name] = k, v
        return self._mixed(core, q, k, v, self._rows(query))

    def attend_shared(self, core: Named[Core], owner: Named[Core], query: int) -> int:
        q = self._split_query(core, query)
        k, v = (self.convert(x, self.core_compute(core.name)) for x in self._own_rows[owner.name])
        return self._mixed(core, q, k, v, self._rows(query))

    def _split_query(self, core: Named[Core], query: int) -> int:
        """Queries by key/value head; those of the last position alone need no transposing."""
        rows, heads = self._rows(query), [core.part.kv_heads, core.part.group, core.part.head_dim]
        if rows == 1:
            return self.reshape(query, [heads[0], 1, heads[1], heads[2]])
        return self.transpose(self.reshape(query, [rows, *heads]), [1, 2, 0, 3])

    def _mixed(self, core: Named[Core], q: int, k: int, v: int, rows: int) -> int:
        outer, single = self.scope, rows == 1
        self.enter(core.name)
        mixed = self._attend(core, q, k, v, single)
        self.enter(outer)
        if not single:
            mixed = self.transpose(mixed, [2, 0, 1, 3])
        return self.reshape(mixed, [rows, core.part.query_size])

    def _attend(self, core: Named[Core], q: int, k: int, v: int, single: bool) -> int:
        """Scores, softmax and weighted sum; ``single`` where the queries are the last position's alone."""
        if self.name == "decode":
            return self._attend_one(core, q, k, v)
        if self.cached:
            k, v = self._with_cache(core, k, v)
        scores = self._capped(core, self.matmul(q, k, transpose_b=True))
        mask = self.mask_of(core.window, single)
        if mask is not None:
            scores = self.add(scores, mask)
        return self.matmul(self.softmax(scores), v)

    def _with_cache(self, core: Named[Core], k: int, v: int) -> tuple[int, int]:
        """The cache and the call's own rows behind it, put together once for all layers that look at them."""
        owner = self._owners[core.name]
        key = owner, self.core_compute(core.name)
        if key not in self._seen_rows:
            cached = (self.from_cache(c, core.name) for c in self.cache[owner])
            self._seen_rows[key] = tuple(self.concatenate([c, t], 2) for c, t in zip(cached, (k, v), strict=True))  # type: ignore[assignment]
        return self._seen_rows[key]

    def _capped(self, core: Named[Core], scores: int) -> int:
        return scores if core.softcap is None else forward.cap(self, scores, core.softcap)

    def _attend_one(self, core: Named[Core], q: int, k: int, v: int) -> int:
        """One token over the cache, without copying it: the cache row that will be this token's is still zero, so its
        own score is put there by ``slot`` (1 at that row, else 0) and its own value added by the weight found there."""
        keys, values = (self.from_cache(c, core.name) for c in self.cache[self._owners[core.name]])
        slot = self.convert(self.slots[core.window], self.core_compute(core.name))
        own, mask = self.matmul(q, k, transpose_b=True), self.cache_masks[core.window]
        if core.softcap is None:
            scores = self.add(self.add(self.matmul(q, keys, transpose_b=True), mask), self.multiply(own, slot))
        else:
            scores = self.add(self._capped(core, self.add(self.matmul(q, keys, transpose_b=True), self.multiply(own, slot))), mask)
        p = self.softmax(scores)
        if self.core_compute(core.name) == Type.FLOAT32:
            own_weight = self.fully_connected(p, slot, -1)
        else:
            own_weight = self.matmul(p, self._slot_matrix(slot), transpose_b=True)
        return self.add(self.matmul(p, values), self.multiply(own_weight, v))

    def _slot_matrix(self, slot: int) -> int:
        if slot not in self._tensors:
            self._tensors[slot] = self.reshape(slot, [1, 1, *self.shapes[slot]])
        return self._tensors[slot]

    def from_cache(self, x: int, core: str) -> int:
        return self.convert(x, self.core_compute(core))
