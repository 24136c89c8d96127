"""Experts as TFLite operators: which ones a token takes and with what weights, all of it in FP32 in the delegate."""

import numpy as np

from firsttoken.backends.tflite.graph import Graph, Op, Type
from firsttoken.backends.tflite.streams import StreamsGraph
from firsttoken.decoder.parts import Router
from firsttoken.decoder.walk import Named

FAR = 1e30
"""What differences of scores are multiplied by, so that any that counts is beyond 1: two scores are then ahead of each other or equal."""


def expert_weights(graph: Graph, part: Router, scored: int, bias: np.ndarray | None, rows: int) -> int:
    """Of ``scored [rows, experts]``, what the router's matrix gave, the weight of every expert ``[rows, experts]``, 0 of those not chosen."""
    scores = graph.softmax(scored) if part.scores == "softmax" else graph.unary(Op.LOGISTIC, scored)
    ranked = scores if bias is None else graph.add(scores, graph.constant(bias.reshape(1, -1)))
    weights = graph.multiply(scores, chosen(graph, part, ranked, rows))
    if part.divided:
        weights = graph.divide(weights, summed(graph, weights, part.experts, part.epsilon))
    return weights if part.factor == 1.0 else graph.multiply(weights, graph.constant(np.full((1, 1), part.factor)))


def chosen(graph: Graph, part: Router, ranked: int, rows: int) -> int:
    """``[rows, experts]``: 1 for those with the highest scores, of equal ones those with the lower numbers; else 0.

    An expert is chosen if it is ahead of all but so many. Every pair is compared, in arithmetic that the delegate takes: TOPK_V2 runs outside
    it, and every layer would be cut in two there.
    """
    count = part.experts
    own, other = graph.reshape(ranked, [rows, count, 1]), graph.reshape(ranked, [rows, 1, count])
    difference = graph.multiply(graph.subtract(own, other), graph.constant(np.full((1, 1, 1), FAR)))
    ahead = clamped(graph, graph.add(difference, graph.constant(np.triu(np.ones((1, count, count)), 1))))
    passed = summed(graph, ahead, count, part.chosen + 1.0 - count)  # at least 1 for those chosen, else at most 0
    return graph.reshape(clamped(graph, passed), [rows, count])


def clamped(graph: Graph, x: int) -> int:
    """``x``, of three dimensions, no less than 0 and no more than 1."""
    return graph.minimum(graph.maximum(x, graph.constant(np.zeros((1, 1, 1)))), graph.constant(np.ones((1, 1, 1))))


def summed(graph: Graph, x: int, count: int, more: float) -> int:
    """The sum of the ``count`` values of the last axis, and ``more``, as a layer of one row: every release's delegate takes that."""
    return graph.fully_connected(x, graph.constant(np.ones((1, count))), graph.constant(np.full(1, more)))


class ExpertsGraph(StreamsGraph):
    """And `decoder.forward.ChoosingOps`; `TfliteOps` is the rest of it."""

    def enter(self, name: str) -> None:
        """What follows belongs to the part of this name."""
        raise NotImplementedError

    def _matrix(self, name: str) -> int:
        """The tensor of a matrix of ``weights``."""
        raise NotImplementedError

    def weigh_experts(self, router: Named[Router], x: int, inner: int) -> int:
        part, rows, outer = router.part, self._rows(x), self.scope
        self.enter(router.name)
        scored = self.fully_connected(self.convert(x, Type.FLOAT32), self._matrix(router.name), -1)
        weights = expert_weights(self, part, scored, self.weights.vectors.get(f"{router.name}.bias"), rows)
        split = self.reshape(self.convert(inner, Type.FLOAT32), [rows, part.experts, self.shapes[inner][1] // part.experts])
        weighed = self.multiply(split, self.reshape(weights, [rows, part.experts, 1]))
        self.enter(outer)
        return self.reshape(weighed, [rows, self.shapes[inner][1]])
