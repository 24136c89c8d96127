"""A .tflite that holds one linear layer alone, for measuring what the layer's kernel takes here."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from firsttoken.backends.tflite import outliers
from firsttoken.backends.tflite.graph import Graph, Type
from firsttoken.backends.tflite.litert import CompiledModel, aligned_zeros
from firsttoken.backends.tflite.model_file import ModelFile
from firsttoken.backends.tflite.weights import Weight
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import Layer

SEED = 20261129


def one_layer(
    checkpoint: Checkpoint,
    layer: Layer,
    precision: str,
    group_size: int,
    tokens: int,
    native_fp16: bool,
    path: Path,
    threads: int,
    apart: bool = False,
) -> Callable[[], np.ndarray]:
    """Writes ``layer``, without its bias, to ``path`` as the decoder's graphs have it, FP32 ``[tokens, columns]`` in and ``[tokens, rows]`` out,
    and loads it; returns what runs it once and gives its result. Raises `FirstTokenError` for damaged weights."""
    file = ModelFile(f"firsttoken {layer.name}")
    weight = Weight(file, checkpoint, layer, precision, group_size)
    graph = Graph(file, "once")
    x = graph.input("x", [tokens, weight.columns], Type.FLOAT32)
    tensor, half = weight.tensor(graph), precision == "fp16" and native_fp16
    if precision == "fp16" and not native_fp16:
        tensor = graph.dequantize(tensor, f"{layer.name}.dequantized")
    y = outliers.apart(graph, x, tensor, -1) if apart else graph.fully_connected(graph.cast(x, Type.FLOAT16) if half else x, tensor, -1)
    graph.output("y", graph.cast(y, Type.FLOAT32))
    graph.finish()
    file.write(path)
    model = CompiledModel(path, threads, None)
    given, found = aligned_zeros([tokens, weight.columns], np.float32), aligned_zeros([tokens, weight.rows], np.float32)
    given[:] = np.random.default_rng(SEED).standard_normal(given.shape, np.float32)
    inputs, outputs = model.bind([given]), model.bind([found])

    def run() -> np.ndarray:
        model.run("once", inputs, outputs)
        return found

    return run
