"""The decoder as ONNX operators: one graph for a prompt, for more of it, and for single tokens.

Values are float32 ``[1, S, n]``, heads and streams side by side in the last axis; what is narrowed has one row. Inputs and outputs are named as
onnxruntime-genai names them. Of every layer with attention the graph takes ``past_key_values.N.key`` and ``.value`` ``[1, kv heads, P, head_dim]`` and
gives ``present.N.key`` and ``.value``: P filled rows and the call's own behind them, or, where both are bound to one memory of more rows, that memory with
the call's rows written into it. onnxruntime's own operators are the fast ones on its CPU: MatMulNBits, GroupQueryAttention, GatherBlockQuantized.
"""

from dataclasses import replace

import numpy as np

from firsttoken.backends.onnx.cores import CACHED, TOTAL, CoresGraph, past_names, present_names
from firsttoken.backends.onnx.graph import DTYPES, MICROSOFT
from firsttoken.backends.onnx.recurrent import RecurrentGraph, past_name, present_name
from firsttoken.backends.onnx.streams import StreamsGraph
from firsttoken.backends.onnx.values import Value
from firsttoken.backends.onnx.weights import DecoderWeights, Weight
from firsttoken.decoder import forward
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.rope import Rope
from firsttoken.decoder.walk import Named, convolution_states, recurrent_states, states

ACCURACY_INT8 = 4  # of MatMulNBits: activations are rounded to int8, one scale for as many columns as a block has
TOKENS = "sequence_length"


class OnnxOps(CoresGraph, RecurrentGraph, StreamsGraph):
    """The one graph. `build` makes it."""

    def __init__(self, data_file: str, decoder: Decoder, weights: DecoderWeights, precisions: dict[str, str]) -> None:
        super().__init__(data_file, weights)
        self.decoder, self.precisions = decoder, precisions
        self._tables: dict[tuple[Rope, float, bool], tuple[str, str]] = {}
        self._angles: dict[tuple[float, ...], tuple[str, str]] = {}

    def build(self) -> None:
        self._inputs()
        self.lengths()
        self.enter("embedding")
        scores = forward.logits(self, Named(self.decoder))
        self.node_of("Identity", [scores.name], ["logits"])
        self._outputs_of_states()

    def _inputs(self) -> None:
        self.input("input_ids", "int64", [1, TOKENS])
        self.input("attention_mask", "int64", [1, TOTAL])
        self.input("position_ids", "int64", [1, TOKENS])
        for state in states(self.decoder):
            for name in past_names(state.layer):
                self.input(name, self.cache_type(state.name), [1, state.kv_heads, CACHED, state.head_dim])
        for kept in convolution_states(self.decoder):
            self.input(past_name("convolution", kept.layer), "float32", [1, kept.channels, kept.rows])
        for held in recurrent_states(self.decoder):
            self.input(past_name("recurrent", held.layer), "float32", [1, held.heads, held.key_dim, held.value_dim])

    def _outputs_of_states(self) -> None:
        self.output("logits", "float32", [1, 1, self.decoder.vocab_size])
        for state in states(self.decoder):
            for name in present_names(state.layer):
                self.output(name, self.cache_type(state.name), [1, state.kv_heads, TOTAL, state.head_dim])
        for kept in convolution_states(self.decoder):
            self.output(present_name("convolution", kept.layer), "float32", [1, kept.channels, kept.rows])
        for held in recurrent_states(self.decoder):
            self.output(present_name("recurrent", held.layer), "float32", [1, held.heads, held.key_dim, held.value_dim])

    # the traversal's operations

    def embed(self, embedding: Named) -> Value:
        weight, tokens = self.weights.matrices[embedding.name], self._tokens_of(embedding)
        columns = (embedding.columns,)
        if weight.scales is None:
            rows = self.node("Gather", [self.stored(weight.values), tokens], name=embedding.name, axis=0)
            return Value(rows if weight.precision == "fp32" else self.node("Cast", [rows], to=1), columns)
        count, size = weight.values.shape[1:]
        table = self.stored(replace(weight.values, shape=(embedding.rows, count * size)))
        rows = self.node(
            "GatherBlockQuantized",
            [table, tokens, self.stored(weight.scales)],
            embedding.name,
            MICROSOFT,
            bits=weight.bits,
            block_size=weight.block,
            gather_axis=0,
            quantize_axis=1,
        )
        if count * weight.block != embedding.columns:  # the last block of a row is not full
            zero, end, axis = (self.constant([n], "int64") for n in (0, embedding.columns, 2))
            rows = self.node("Slice", [rows, zero, end, axis])
        return Value(rows, columns)

    def _tokens_of(self, embedding: Named) -> str:
        """The call's tokens; 0 for those beyond a table of layers that has fewer rows than the vocabulary."""
        if embedding.rows >= self.decoder.vocab_size:
            return "input_ids"
        known = self.node("Less", ["input_ids", self.constant(embedding.rows, "int64")])
        return self.node("Where", [known, "input_ids", self.constant(0, "int64")])

    def norm(self, norm: Named, x: Value) -> Value:
        weight = self.weights.vectors.get(norm.name, np.ones(norm.size, np.float32))
        bias = self.weights.vectors.get(f"{norm.name}.bias")
        given = [self.split(x), self.constant(weight, name=norm.name if norm.weight is not None else None)]
        kind = "LayerNormalization" if norm.centred else "RMSNormalization"
        if norm.centred and bias is not None:
            given.append(self.constant(bias, name=f"{norm.name}.bias"))
        made = self.node(kind, given, axis=-1, epsilon=norm.epsilon)
        if bias is not None and not norm.centred:
            made = self.node("Add", [made, self.constant(bias, name=f"{norm.name}.bias")])
        return self.joined(made, x.parts, x.last) if len(x.parts) > 1 else replace(x, name=made)

    def linear(self, linear: Named, x: Value) -> Value:
        weight = self.weights.matrices[linear.name]
        bias = self.weights.vectors.get(f"{linear.name}.bias")
        added = None if bias is None else self.constant(bias, name=f"{linear.name}.bias")
        name = self._floats(linear, weight, x, added) if weight.scales is None else self._integers(linear, weight, x, added)
        return Value(name, (linear.rows,), x.last)

    def _floats(self, linear: Named, weight: Weight, x: Value, bias: str | None) -> str:
        """FP16 is how the weight is stored: onnxruntime's CPU has no product of halves on every machine, and computes in FP32."""
        matrix = self.stored(weight.values)
        if weight.precision == "fp16":
            matrix = self.node("Cast", [matrix], to=DTYPES["float32"])
        product = self.node("FusedMatMul", [x.name, matrix], linear.name, MICROSOFT, transB=1)
        return product if bias is None else self.node("Add", [product, bias])

    def _integers(self, linear: Named, weight: Weight, x: Value, bias: str | None) -> str:
        assert weight.scales is not None
        given = [x.name, self.stored(weight.values), self.stored(weight.scales)]
        return self.node(
            "MatMulNBits",
            given if bias is None else [*given, "", "", bias],
            linear.name,
            MICROSOFT,
            K=linear.columns,
            N=linear.rows,
            bits=weight.bits,
            block_size=weight.block,
            accuracy_level=ACCURACY_INT8,
        )

    def narrow(self, layer: Named, normed: Value, residual: Value) -> tuple[Value, Value]:
        return self.last(normed), self.last(residual)

    def last(self, x: Value) -> Value:
        return x if x.last else replace(x, name=self.last_row(x.name), last=True)

    def split_heads(self, x: Value, heads: int, head_dim: int) -> Value:
        return replace(x, parts=(heads, head_dim))

    def into_core(self, attention: Named, which: str, x: Value) -> Value:
        return x

    def rotate(self, attention: Named, which: str, x: Value) -> Value:
        scale = attention.rotated_scale if which == "q" else 1.0
        tables = self._rotation(attention.rotation, scale, x.last)
        return self.like(x, "RotaryEmbedding", self.constant([0], "int64"), *tables, domain=MICROSOFT)

    def _rotation(self, rope: Rope, scale: float, last: bool) -> tuple[str, str]:
        """cos and sin of the call's positions, or of the last one, ``[rows, head_dim / 2]``, times the rotation's factor and ``scale``."""
        key = rope, scale, last
        if key not in self._tables:
            outer = self.scope
            self.enter("rotation")
            if last:
                self._tables[key] = tuple(self.last_row(t, axis=0) for t in self._rotation(rope, scale, False))  # type: ignore[assignment]
            else:
                self._tables[key] = tuple(self._times(t, rope, scale) for t in self._cos_sin(rope))  # type: ignore[assignment]
            self.enter(outer)
        return self._tables[key]

    def _cos_sin(self, rope: Rope) -> tuple[str, str]:
        if rope.inverse_frequencies not in self._angles:
            column = self.node("Reshape", ["position_ids", self.constant([-1, 1], "int64")])
            angles = self.node("Mul", [self.node("Cast", [column], to=1), self.constant([rope.inverse_frequencies])])
            self._angles[rope.inverse_frequencies] = self.node("Cos", [angles]), self.node("Sin", [angles])
        return self._angles[rope.inverse_frequencies]

    def _times(self, table: str, rope: Rope, scale: float) -> str:
        factors = rope.factors * np.float32(scale)
        return table if (factors == 1).all() else self.node("Mul", [table, self.constant(factors)])
