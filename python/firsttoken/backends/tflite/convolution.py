"""The short convolution as TFLite operators: over what a layer remembers of its inputs, and the call's own."""

import numpy as np

from firsttoken.backends.tflite.graph import Graph, Type
from firsttoken.backends.tflite.model_file import ModelFile
from firsttoken.backends.tflite.weights import DecoderWeights
from firsttoken.decoder.parts import Convolution
from firsttoken.decoder.walk import Named, layer_number


class ConvolutionGraph(Graph):
    """What a graph of the decoder needs for layers with a convolution; `TfliteOps` is the rest of it."""

    weights: DecoderWeights
    S: int
    cached: bool
    last_index: int
    remembered: dict[str, int]  # the last inputs before the call, by the name of their kernel

    def __init__(self, file: ModelFile, name: str) -> None:
        super().__init__(file, name)
        self._newest_rows: dict[int, int] = {}

    def enter(self, name: str) -> None:
        self.scope = name

    def convert(self, x: int, dtype: int) -> int:
        raise NotImplementedError

    def convolve(self, kernel: Named[Convolution], gate: int | None, value: int, narrowed: bool) -> int:
        part, outer = kernel.part, self.scope
        gated = self.convert(value if gate is None else gate, Type.FLOAT32)
        if gate is not None:
            gated = self.multiply(gated, value)
        self.enter(kernel.name)
        rows = part.length - 1
        before = self.remembered[kernel.name] if self.cached else self.constant(np.zeros((rows, part.channels)))
        known = self.concatenate([before, gated], 0)
        self.output(f"convolution.{layer_number(kernel.name)}", self._newest(known, rows))
        weight = self.constant(self.weights.vectors[kernel.name].T.reshape(1, part.length, 1, part.channels))
        mixed = self.depthwise(known, weight, self.constant(self.weights.vectors[f"{kernel.name}.bias"]))
        self.enter(outer)
        return self.gather_rows(mixed, self.last_index) if narrowed and self.S != 1 else mixed

    def _newest(self, known: int, rows: int) -> int:
        """The last ``rows`` rows up to the last token's, of what was remembered (as many rows) and the call's own."""
        if self.S == 1:
            return self.slice(known, [1, 0], [rows, self.shapes[known][1]])
        if rows not in self._newest_rows:
            self._newest_rows[rows] = self.add(self.last_index, self.constant(np.arange(1, rows + 1), np.int32))
        return self.gather_rows(known, self._newest_rows[rows])
