"""What the traversal hands on, and the plain arithmetic on it that the decoder's parts are made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from firsttoken.backends.onnx.graph import MICROSOFT, Graph
from firsttoken.backends.onnx.weights import DecoderWeights


@dataclass(frozen=True)
class Value:
    """A float32 tensor ``[1, rows, product of parts]``; ``last``: its one row is the last position's, else it has one for every token of the call."""

    name: str
    parts: tuple[int, ...]
    last: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.parts)


class ValueGraph(Graph):
    """A graph of `Value`; ``weights`` are the decoder's."""

    def __init__(self, data_file: str, weights: DecoderWeights) -> None:
        super().__init__(data_file)
        self.weights = weights

    def enter(self, name: str) -> None:
        self.scope = name

    def like(self, x: Value, kind: str, *others: str, domain: str = "", **attributes: Any) -> Value:
        """The result, shaped as ``x``, of an operator on it and ``others``."""
        return replace(x, name=self.node(kind, [x.name, *others], domain=domain, **attributes))

    def split(self, x: Value) -> str:
        """``[1, rows, *parts]``."""
        return self.reshaped(x.name, x.parts) if len(x.parts) > 1 else x.name

    def joined(self, name: str, parts: Sequence[int], last: bool) -> Value:
        """A tensor ``[1, rows, ...]`` of so many parts as a value."""
        return Value(self.reshaped(name, [math.prod(parts)]), tuple(parts), last)

    def reshaped(self, name: str, sizes: Sequence[int]) -> str:
        """``[1, rows, *sizes]``."""
        return self.node("Reshape", [name, self.constant([0, 0, *sizes], "int64")])

    def last_row(self, name: str, axis: int = 1) -> str:
        return self.node("Gather", [name, self.constant([-1], "int64")], axis=axis)

    def mean(self, x: Value) -> str:
        """The mean of the last axis, ``[1, rows, 1]``."""
        return self.node("ReduceMean", [x.name, self.constant([-1], "int64")], keepdims=1)

    # of `decoder.forward.Ops`

    def add(self, residual: Value, x: Value) -> Value:
        return self.like(residual, "Add", x.name)

    def subtract(self, a: Value, b: Value) -> Value:
        return self.like(a, "Sub", b.name)

    def multiply(self, a: Value, b: Value) -> Value:
        """Shaped as the larger one: a number a token may be multiplied with a state."""
        return self.like(a if a.size >= b.size else b, "Mul", (b if a.size >= b.size else a).name)

    def scale(self, x: Value, by: float) -> Value:
        return self.like(x, "Mul", self.constant(by))

    def activate(self, kind: str, x: Value) -> Value:
        if kind == "silu":
            return self.like(x, "QuickGelu", domain=MICROSOFT, alpha=1.0)
        if kind == "gelu_tanh":
            return self.like(x, "Gelu", approximate="tanh")
        if kind == "relu2":
            positive = self.like(x, "Relu")
            return self.multiply(positive, positive)
        return self.like(x, {"tanh": "Tanh", "sigmoid": "Sigmoid"}[kind])

    def product(self, x: Value, weight: np.ndarray, bias: Sequence[float] | np.ndarray | None = None) -> Value:
        """``x @ weight^T + bias`` in FP32, with a small weight ``[rows, columns]`` that stands in the graph."""
        made = self.node("FusedMatMul", [x.name, self.constant(weight)], domain=MICROSOFT, transB=1)
        if bias is not None:
            made = self.node("Add", [made, self.constant(bias)])
        return Value(made, (len(weight),), x.last)
