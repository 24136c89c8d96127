"""Operators for layers that take more than the residual: embeddings of every layer, streams of the hidden state, sparse MLPs, experts. All in FP32."""

import numpy as np

from firsttoken.backends.onnx.graph import more
from firsttoken.backends.onnx.values import Value, ValueGraph
from firsttoken.decoder.parts import Coefficients, Cutoff, Router
from firsttoken.decoder.walk import Named


class StreamsGraph(ValueGraph):
    """`decoder.forward.StreamedOps` and `ChoosingOps`; `OnnxOps` is the rest of it."""

    def split_layers(self, x: Value, layers: int, size: int) -> Value:
        return Value(x.name, (layers, size), x.last)

    def narrow_layers(self, x: Value) -> Value:
        return x if x.last else Value(self.last_row(x.name), x.parts, True)

    def layer_input(self, x: Value, number: int) -> Value:
        return self._cut(x, number)

    def _cut(self, x: Value, number: int) -> Value:
        """Part ``number`` of several of one size."""
        size, axis = x.parts[1], self.constant([2], "int64")
        begin, end = (self.constant([at * size], "int64") for at in (number, number + 1))
        return Value(self.node("Slice", [x.name, begin, end, axis]), (size,), x.last)

    def multiply_by(self, factor: Named, x: Value) -> Value:
        return self.like(x, "Mul", self.constant(self.weights.vectors[factor.name], name=factor.name))

    def stack(self, streams: list[Value]) -> Value:
        name = self.node("Concat", [x.name for x in streams], axis=2)
        return Value(name, (len(streams), streams[0].size), streams[0].last)

    def unstack(self, x: Value, count: int) -> list[Value]:
        return [self._cut(x, number) for number in range(count)]

    def match(self, part: Named, x: Value, like: Value) -> Value:
        own, wanted = (self.mean(self.multiply(t, t)) for t in (x, like))
        own = self.node("Max", [own, self.constant(part.floor)])
        return self.like(x, "Mul", self.node("Div", [self.node("Sqrt", [wanted]), self.node("Sqrt", [own])]))

    def coefficients(self, part: Named[Coefficients], x: Value, first: bool = False) -> Value:
        rows = part.part.first if first else part.rows
        return self.product(x, self.weights.vectors[part.name][:rows], part.offset[:rows])

    def mix(self, factors: Value, x: Value) -> Value:
        streams, size = x.parts
        count = factors.size // streams
        mixed = self.node("MatMul", [self.reshaped(factors.name, [count, streams]), self.split(x)])
        return self.joined(mixed, (size,) if count == 1 else (count, size), x.last)

    def spread(self, x: Value, factors: Value | None, streams: int) -> Value:
        later = np.minimum(np.arange(streams), 1).reshape(1, 1, streams, 1)
        by = self.constant(later) if factors is None else self.reshaped(factors.name, [streams, 1])
        return self.joined(self.node("Mul", [self.reshaped(x.name, [1, x.size]), by]), (streams, x.size), x.last)

    def cut_off(self, part: Named[Cutoff], x: Value) -> Value:
        centred = self.like(x, "Sub", self.mean(x))
        deviation = self.node("Sqrt", [self.mean(self.multiply(centred, centred))])
        least = self.node("Mul", [deviation, self.constant(part.deviations)])
        return self.like(self.like(centred, "Sub", least), "Relu")

    def weigh_experts(self, router: Named[Router], x: Value, inner: Value) -> Value:
        part, outer = router.part, self.scope
        self.enter(router.name)
        weights = self._expert_weights(
            part, self.product(x, self.weights.vectors[router.name]), self.weights.vectors.get(f"{router.name}.bias")
        )
        size = inner.size // part.experts
        weighed = self.node("Mul", [self.reshaped(inner.name, [part.experts, size]), self.reshaped(weights, [part.experts, 1])])
        self.enter(outer)
        return self.joined(weighed, (inner.size,), inner.last)

    def _expert_weights(self, part: Router, scored: Value, bias: np.ndarray | None) -> str:
        """The weight of every expert ``[1, rows, experts]``, 0 of those not chosen; of equal scores TopK takes the lower numbers first."""
        scores = self.node("Softmax", [scored.name], axis=-1) if part.scores == "softmax" else self.node("Sigmoid", [scored.name])
        ranked = scores if bias is None else self.node("Add", [scores, self.constant(bias)])
        best = more(self.node("TopK", [ranked, self.constant([part.chosen], "int64")], outputs=2, axis=-1), 1)
        taken = self.node("GatherElements", [scores, best], axis=2)
        if part.divided:
            total = self.node("ReduceSum", [taken, self.constant([-1], "int64")], keepdims=1)
            taken = self.node("Div", [taken, self.node("Add", [total, self.constant(part.epsilon)])])
        if part.factor != 1.0:
            taken = self.node("Mul", [taken, self.constant(part.factor)])
        nothing = self.node("Mul", [scores, self.constant(0.0)])
        return self.node("ScatterElements", [nothing, best, taken], axis=2)
