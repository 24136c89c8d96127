"""Operators for layers that take more than the residual: embeddings of every layer, streams of the hidden state, sparse MLPs.

Streams are ``[S, streams, hidden_size]`` (AltUp, arXiv 2301.13310); all is computed in FP32.
"""

import numpy as np

from firsttoken.backends.tflite.graph import Graph, Op, Type
from firsttoken.backends.tflite.weights import DecoderWeights
from firsttoken.decoder.parts import Coefficients, Cutoff
from firsttoken.decoder.walk import Named


class StreamsGraph(Graph):
    """`decoder.forward.StreamedOps` for one graph of a call of ``S`` tokens, of which the last stands at ``last_index``."""

    S: int
    last_index: int
    weights: DecoderWeights

    def split_layers(self, x: int, layers: int, size: int) -> int:
        return self.reshape(x, [self._rows(x), layers, size])

    def _rows(self, x: int) -> int:
        rows = self.shapes[x][0]
        return 1 if rows == 1 else rows  # a run-time length of at most 1 is 1

    def narrow_layers(self, x: int) -> int:
        return x if self.S == 1 else self.gather_rows(x, self.last_index)

    def layer_input(self, x: int, number: int) -> int:
        return self._cut(x, number)

    def _cut(self, x: int, number: int) -> int:
        """``[S, n, size]`` to the ``[S, size]`` of one n."""
        rows, _, size = self.shapes[x]
        return self.reshape(self.slice(x, [0, number, 0], [rows, 1, size]), [rows, size])

    def multiply_by(self, factor: Named, x: int) -> int:
        return self.multiply(x, self.constant(self.weights.vectors[factor.name].reshape(1, -1)))

    def convert(self, x: int, dtype: int) -> int:
        """``x`` in another type."""
        raise NotImplementedError

    def stack(self, streams: list[int]) -> int:
        shape = [self._rows(streams[0]), 1, self.shapes[streams[0]][1]]
        return self.concatenate([self.reshape(x, shape) for x in streams], 1)

    def unstack(self, x: int, count: int) -> list[int]:
        return [self._cut(x, number) for number in range(count)]

    def match(self, part: Named, x: int, like: int) -> int:
        x = self.convert(x, Type.FLOAT32)
        own, wanted = (self.mean_last(self.multiply(t, t)) for t in (x, like))
        own = self.maximum(own, self.constant(np.full((1, 1), part.floor)))
        return self.multiply(x, self.multiply(self.unary(Op.RSQRT, own), self.unary(Op.SQRT, wanted)))

    def coefficients(self, part: Named[Coefficients], x: int, first: bool = False) -> int:
        rows = part.part.first if first else part.rows
        weight = self.constant(self.weights.vectors[part.name][:rows])
        return self.fully_connected(x, weight, self.constant(part.offset[:rows]))

    def mix(self, factors: int, x: int) -> int:
        rows, streams, size = self._rows(x), *self.shapes[x][1:]
        count = self.shapes[factors][1] // streams
        mixed = self.matmul(self.reshape(factors, [rows, count, streams]), x)
        return self.reshape(mixed, [rows, size]) if count == 1 else mixed

    def spread(self, x: int, factors: int | None, streams: int) -> int:
        rows, size = self._rows(x), self.shapes[x][1]
        later = np.minimum(np.arange(streams), 1).reshape(1, streams, 1)
        by = self.constant(later) if factors is None else self.reshape(factors, [rows, streams, 1])
        return self.multiply(self.reshape(x, [rows, 1, size]), by)

    def cut_off(self, part: Named[Cutoff], x: int) -> int:
        x = self.convert(x, Type.FLOAT32)
        centred = self.subtract(x, self.mean_last(x))
        deviation = self.unary(Op.SQRT, self.mean_last(self.multiply(centred, centred)))
        least = self.multiply(deviation, self.constant(np.full((1, 1), part.deviations)))
        return self.unary(Op.RELU, self.subtract(centred, least))
