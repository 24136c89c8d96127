"""What layers with a convolution or a delta rule remember, as ONNX operators: onnxruntime has one for each."""

import numpy as np

from firsttoken.backends.onnx.graph import MICROSOFT, more
from firsttoken.backends.onnx.values import Value, ValueGraph
from firsttoken.decoder.parts import Convolution, DeltaRule
from firsttoken.decoder.walk import Named, layer_number


def past_name(kind: str, layer: int) -> str:
    """The input that takes what a layer remembers: "convolution" or "recurrent"."""
    return f"past_{kind}.{layer}"


def present_name(kind: str, layer: int) -> str:
    """The output that gives it back."""
    return f"present_{kind}.{layer}"


class RecurrentGraph(ValueGraph):
    """`decoder.forward.Ops.convolve` and `RecurrentOps`; `OnnxOps` is the rest of it."""

    def convolve(self, kernel: Named[Convolution], gate: Value | None, value: Value, narrowed: bool) -> Value:
        gated = value if gate is None else self.multiply(gate, value)
        outer, layer = self.scope, layer_number(kernel.name)
        self.enter(kernel.name)
        channels_first = self.node("Transpose", [gated.name], perm=[0, 2, 1])
        weight, bias = (self.constant(self.weights.vectors[name], name=name) for name in (kernel.name, f"{kernel.name}.bias"))
        mixed, known = f"{kernel.name}/mixed", present_name("convolution", layer)
        given = [channels_first, weight, bias, past_name("convolution", layer)]
        self.node_of("CausalConvWithState", given, [mixed, known], kernel.name, MICROSOFT)
        mixed = self.node("Transpose", [mixed], perm=[0, 2, 1])
        self.enter(outer)
        return Value(self.last_row(mixed) if narrowed else mixed, (kernel.part.channels,), narrowed)

    def split_columns(self, x: Value, sizes: tuple[int, ...]) -> tuple[Value, ...]:
        first = self.node("Split", [x.name, self.constant(sizes, "int64")], outputs=len(sizes), axis=-1)
        names = [first, *(more(first, n) for n in range(1, len(sizes)))]
        return tuple(Value(name, (size,), x.last) for name, size in zip(names, sizes, strict=True))

    def join_heads(self, x: Value) -> Value:
        return Value(x.name, (x.size,), x.last)

    def delta_rule(
        self, rule: Named[DeltaRule], query: Value, key: Value, value: Value, strength: Value, forgetting: Value, narrowed: bool
    ) -> Value:
        part, outer, layer = rule.part, self.scope, layer_number(rule.name)
        self.enter(rule.name)
        q, k = (self._every_value_head(x, part) for x in (query, key))
        rate = self.constant(-np.exp(self.weights.vectors[rule.name]), name=rule.name)
        decay = self.node("Mul", [self.node("Softplus", [forgetting.name]), rate])
        found, state = f"{rule.name}/found", present_name("recurrent", layer)
        self.node_of(
            "LinearAttention",
            [q, k, value.name, past_name("recurrent", layer), decay, self.node("Sigmoid", [strength.name])],
            [found, state],
            rule.name,
            MICROSOFT,
            q_num_heads=part.value_heads,
            kv_num_heads=part.value_heads,
            scale=1.0,
            update_rule="gated_delta",
        )
        self.enter(outer)
        return Value(self.last_row(found) if narrowed else found, (part.value_heads, part.value_dim), narrowed)

    def _every_value_head(self, x: Value, part: DeltaRule) -> str:
        """Key heads each for its group, ``[1, rows, value_heads * key_dim]``."""
        if part.group == 1:
            return x.name
        apart = self.reshaped(x.name, [part.key_heads, 1, part.key_dim])
        every = self.node("Expand", [apart, self.constant([1, 1, 1, part.group, 1], "int64")])
        return self.reshaped(every, [part.value_heads * part.key_dim])
