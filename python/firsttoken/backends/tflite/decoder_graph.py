"""The decoder as TFLite operators: three graphs over one set of weights.

``first``: a prompt from position 0, nothing cached. ``extend``: a later chunk over the cache. ``decode``: one token
over the cache. All return the last position's logits and only the new key/value rows, which the host appends.
Shapes: S is the number of tokens in the call, C the cache rows the host passes (at least those filled), both chosen
at run time; attention tensors are ``[kv heads, group, rows, head_dim]``, so that one key/value head serves its group
of query heads by broadcasting.
"""

from dataclasses import dataclass

import numpy as np

from firsttoken.backends.tflite.graph import Dynamic, Graph, Op, Type
from firsttoken.backends.tflite.model_file import ModelFile
from firsttoken.backends.tflite.weights import Weight, to_float16
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.config import DecoderConfig, Layer

MASKED = -30000.0  # added to a score that must not count; inside FP16's range even on top of a real score
FLOATS = {"fp32": Type.FLOAT32, "fp16": Type.FLOAT16}


@dataclass
class DecoderWeights:
    """Everything the graphs share: streamed matrices by layer name, and small vectors read into memory."""

    config: DecoderConfig
    precisions: dict[str, str]
    native_fp16: bool  # True: FP16 layers compute in FP16; False: FP16 is storage, dequantized to FP32
    matrices: dict[str, Weight]
    vectors: dict[str, np.ndarray]

    def core_type(self, layer: int) -> int:
        return FLOATS[self.precisions[f"layers.{layer}.attention.core"]]


def read_weights(
    file: ModelFile,
    checkpoint: Checkpoint,
    config: DecoderConfig,
    layers: list[Layer],
    norms,
    precisions: dict[str, str],
    group_size: int,
    native_fp16: bool,
) -> DecoderWeights:
    """Plans every matrix as a streamed buffer and reads biases and norms. A tied head shares the embedding's buffer
    where both have the same precision."""
    matrices: dict[str, Weight] = {}
    vectors = {name: checkpoint.vector(tensor) for name, tensor, _ in norms}
    for layer in layers:
        if layer.kind == "core":
            continue
        shared = matrices.get("embedding") if layer.name == "head" and config.tied_head else None
        if shared is not None and shared.precision == precisions["head"]:
            matrices["head"] = shared
        else:
            matrices[layer.name] = Weight(file, checkpoint, layer, precisions[layer.name], group_size)
        if layer.bias:
            vectors[f"{layer.name}.bias"] = checkpoint.vector(layer.bias)
    return DecoderWeights(config, precisions, native_fp16, matrices, vectors)


class DecoderGraph(Graph):
    """One of the three graphs. ``add_all`` builds it; its inputs and outputs are then in ``inputs`` and ``outputs``."""

    def __init__(self, file: ModelFile, name: str, weights: DecoderWeights, tokens: int, cached: int):
        super().__init__(file, name)
        self.weights, self.config = weights, weights.config
        self.cached = name != "first"
        self.S = 1 if name == "decode" else Dynamic("tokens", tokens)
        self.C = Dynamic("cached", cached)
        self._casts: dict[tuple[int, int], int] = {}
        self._tensors: dict[str, int] = {}

    def add_all(self):
        config = self.config
        self._inputs()
        self._rotation()
        self._masks()
        x = self._embedding()
        for n in range(config.layer_count):
            x = self._block(n, x)
        self.scope = "head"
        logits = self.linear("head", self.norm(x, "norm"))
        self.output("logits", self.convert(logits, Type.FLOAT32))
        self.finish()

    def _inputs(self):
        self.tokens = self.input("tokens", [self.S], Type.INT32)
        self.positions = self.input("positions", [self.S], Type.FLOAT32)
        if self.S != 1:
            self.last = self.input("last", [1], Type.INT32)
        if self.cached:
            self.cache_mask = self.input("cache_mask", [1, self.C], Type.FLOAT32)
        if self.name == "decode":
            self.slot = self.input("slot", [1, self.C], Type.FLOAT32)
        self._cache_inputs()

    def _cache_inputs(self):
        config = self.config
        shape = [config.kv_head_count, 1, self.C, config.head_dim]
        self.cache = (
            [[self.input(f"{which}.{n}", shape, self.cache_type(n)) for which in ("key", "value")] for n in range(config.layer_count)]
            if self.cached
            else None
        )

    # helpers

    def cache_type(self, layer: int) -> int:
        return self.weights.core_type(layer)

    def convert(self, x: int, dtype: int) -> int:
        """Casts ``x``, once per tensor and type."""
        if self.dtype(x) == dtype:
            return x
        if (x, dtype) not in self._casts:
            self._casts[x, dtype] = self.cast(x, dtype)
        return self._casts[x, dtype]

    def matrix(self, name: str) -> int:
        weight = self.weights.matrices[name]
        if name not in self._tensors:
            tensor = weight.tensor(self)
            if weight.precision == "fp16" and not self.weights.native_fp16:
                tensor = self.dequantize(tensor, f"{name}.dequantized")
            self._tensors[name] = tensor
        return self._tensors[name]

    def linear(self, name: str, x: int) -> int:
        """A layer of the plan: casts the input to what its kernel computes in, and returns that type."""
        weight = self.weights.matrices[name]
        half = weight.precision == "fp16" and self.weights.native_fp16
        bias = self.weights.vectors.get(f"{name}.bias")
        bias_tensor = -1
        if bias is not None:
            bias_tensor = self.constant(to_float16(bias, f"{name}.bias") if half else bias, np.float16 if half else np.float32)
        x = self.convert(x, Type.FLOAT16 if half else Type.FLOAT32)
        return self.fully_connected(x, self.matrix(name), bias_tensor)

    def norm(self, x: int, name: str) -> int:
        """RMSNorm in FP32 over the last axis: x / sqrt(mean(x^2) + epsilon) * weight (arXiv 1910.07467)."""
        x = self.convert(x, Type.FLOAT32)
        mean = self.mean_last(self.multiply(x, x))
        scale = self.unary(Op.RSQRT, self.add(mean, self.constant(np.full((1, 1), self.config.norm_epsilon))))
        return self.multiply(self.multiply(x, scale), self.constant(self.weights.vectors[name]))

    # once per call

    def _rotation(self):
        """cos and sin of every position ``[S, 1, head_dim]``; sin is signed so that rotate-half is a plain swap of halves.
        The queries' tables carry 1/sqrt(head_dim)."""
        self.scope = "rotation"
        rope, scale = self.config.rope, self.config.head_dim**-0.5
        cos, sin = self._cos_sin()
        self.rotations = {}
        for who, factor in (("query", rope.factor * scale), ("key", rope.factor)):
            self.rotations[who] = [t if factor == 1 else self.multiply(t, self.constant(np.full((1, 1, 1), factor))) for t in (cos, sin)]

    def _cos_sin(self) -> tuple[int, int]:
        angles = self.multiply(
            self.reshape(self.positions, [self.S, 1, 1]), self.constant(np.reshape(self.config.rope.inverse_frequencies, (1, 1, -1)))
        )
        cos, sin = self.unary(Op.COS, angles), self.unary(Op.SIN, angles)
        return self.concatenate([cos, cos], 2), self.concatenate([self.unary(Op.NEG, sin), sin], 2)

    def _masks(self):
        """Additive masks: ``[S, S]`` for the call's own tokens, ``[S, C + S]`` with the cache before them."""
        self.scope = "mask"
        self.own_mask = None
        if self.S == 1:
            return
        row, column = self.reshape(self.positions, [self.S, 1]), self.reshape(self.positions, [1, self.S])
        step = self.constant(np.full((1, 1), -MASKED))
        difference = self.multiply(self.subtract(row, column), step)
        zero, floor = self.constant(np.zeros((1, 1))), self.constant(np.full((1, 1), MASKED))
        self.own_mask = self.maximum(self.minimum(difference, zero), floor)
        if self.cached:
            self.last_mask = self.concatenate([self.cache_mask, self.multiply(column, zero)], 1)
            over_cache = self.add(self.multiply(row, zero), self.cache_mask)
            self.own_mask = self.concatenate([over_cache, self.own_mask], 1)

    def _embedding(self) -> int:
        self.scope, tokens = "embedding", self.tokens
        weight = self.weights.matrices["embedding"]
        if weight.precision == "int8":
            # Not EMBEDDING_LOOKUP: TFLite 2.16 gives wrong numbers for an int8 table with per-row scales.
            values = self.gather_rows(weight.raw_tensor(self), tokens, version=2)
            return self.multiply(self.cast(values, Type.FLOAT32), self.gather_rows(weight.scales_tensor(self), tokens))
        if weight.precision == "fp16" and not self.weights.native_fp16:
            # TFLite 2.16 cannot GATHER float16; the same bytes gathered as int16 and reinterpreted are exact.
            values = self.gather_rows(weight.raw_tensor(self, Type.INT16), tokens)
            return self.convert(self.operator(Op.BITCAST, [values], self.shapes[values], Type.FLOAT16), Type.FLOAT32)
        return self.convert(self.gather_rows(weight.raw_tensor(self), tokens), Type.FLOAT32)

    # once per layer

    def _block(self, n: int, x: int) -> int:
        self.scope = f"layers.{n}.attention"
        y = self.norm(x, f"layers.{n}.attention_norm")
        # Only the last position's logits are wanted: the last layer needs every key and value, but one query.
        single = self.S == 1
        query_input = y
        if n == self.config.layer_count - 1 and not single:
            query_input, x, single = self.gather_rows(y, self.last), self.gather_rows(x, self.last), True
        x = self.add(x, self.convert(self._attention(n, query_input, y, single), Type.FLOAT32))
        self.scope = f"layers.{n}.mlp"
        y = self.norm(x, f"layers.{n}.mlp_norm")
        gate = self.linear(f"layers.{n}.mlp.gate", y)
        activated = self.multiply(gate, self.unary(Op.LOGISTIC, gate))
        up = self.convert(self.linear(f"layers.{n}.mlp.up", y), self.dtype(activated))
        return self.add(x, self.convert(self.linear(f"layers.{n}.mlp.down", self.multiply(activated, up)), Type.FLOAT32))

    def _heads(self, n: int, which: str, x: int, heads: int, rows: int, rotation) -> int:
        """One projection, its optional norm and rotation: ``[rows, heads, head_dim]`` in the core's type."""
        config, core = self.config, self.core_compute(n)
        y = self.reshape(self.linear(f"layers.{n}.attention.{which}", x), [rows, heads, config.head_dim])
        if config.qk_norm and which != "v":
            y = self.norm(y, f"layers.{n}.attention.{which}_norm")
        y = self.convert(y, core)
        if rotation is None:
            return y
        cos, sin = (self.convert(t, core) for t in rotation)
        first, second = self.split_halves(y)
        return self.add(self.multiply(y, cos), self.multiply(self.concatenate([second, first], 2), sin))

    def core_compute(self, layer: int) -> int:
        return self.weights.core_type(layer) if self.weights.native_fp16 else Type.FLOAT32

    def _last_rotation(self, rotation):
        """The rotation of the last position alone."""
        key = ("last", rotation[0])
        if key not in self._tensors:
            self._tensors[key] = [self.gather_rows(t, self.last) for t in rotation]
        return self._tensors[key]

    def _attention(self, n: int, query_input: int, x: int, single: bool) -> int:
        config, core = self.config, self.core_compute(n)
        kv, group, dim = config.kv_head_count, config.group_size, config.head_dim
        rows = 1 if single else self.S
        rotation = self.rotations["query"] if rows == self.S else self._last_rotation(self.rotations["query"])
        q = self._heads(n, "q", query_input, config.head_count, rows, rotation)
        k = self._heads(n, "k", x, kv, self.S, self.rotations["key"])
        v = self._heads(n, "v", x, kv, self.S, None)
        q = self.reshape(q, [kv, 1, group, dim]) if single else self.transpose(self.reshape(q, [rows, kv, group, dim]), [1, 2, 0, 3])
        own = [kv, 1, self.S, dim]
        k, v = (self.reshape(t if self.S == 1 else self.transpose(t, [1, 0, 2]), own) for t in (k, v))
        self.output(f"key.{n}", self.to_cache(k, n))
        self.output(f"value.{n}", self.to_cache(v, n))
        self.scope = f"layers.{n}.attention.core"
        o = self._attend(n, q, k, v, core, single)
        self.scope = f"layers.{n}.attention"
        if not single:
            o = self.transpose(o, [2, 0, 1, 3])
        return self.linear(f"layers.{n}.attention.output", self.reshape(o, [rows, config.query_size]))

    def _attend(self, n: int, q: int, k: int, v: int, core: int, single: bool) -> int:
        """Scores, softmax and weighted sum; ``single`` where the queries are the last position's alone."""
        if self.name == "decode":
            return self._attend_one(n, q, k, v, core)
        if self.cached:
            k, v = (self.concatenate([self.from_cache(c, n), t], 2) for c, t in zip(self.cache[n], (k, v), strict=True))
        mask = self.own_mask if not single else (self.last_mask if self.cached else None)
        scores = self.matmul(q, k, transpose_b=True)
        if mask is not None:
            scores = self.add(scores, self.convert(mask, core))
        return self.matmul(self.softmax(scores), v)

    def _attend_one(self, n: int, q: int, k: int, v: int, core: int) -> int:
        """One token over the cache, without copying it: the cache row that will be this token's is still zero, so its
        own score is put there by ``slot`` (1 at that row, else 0) and its own value added by the weight found there."""
        keys, values = (self.from_cache(c, n) for c in self.cache[n])
        slot = self.convert(self.slot, core)
        own = self.matmul(q, k, transpose_b=True)
        scores = self.add(self.matmul(q, keys, transpose_b=True), self.convert(self.cache_mask, core))
        p = self.softmax(self.add(scores, self.multiply(own, slot)))
        own_weight = (
            self.fully_connected(p, slot, -1) if core == Type.FLOAT32 else self.matmul(p, self._slot_matrix(slot), transpose_b=True)
        )
        return self.add(self.matmul(p, values), self.multiply(own_weight, v))

    def _slot_matrix(self, slot: int) -> int:
        if "slot" not in self._tensors:
            self._tensors["slot"] = self.reshape(slot, [1, 1, 1, self.C])
        return self._tensors["slot"]

    def to_cache(self, x: int, layer: int) -> int:
        return self.convert(x, self.cache_type(layer))

    def from_cache(self, x: int, layer: int) -> int:
        return self.convert(x, self.core_compute(layer))
