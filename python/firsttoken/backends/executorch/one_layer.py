"""A .pte that holds one linear layer alone, for measuring what the layer's kernel takes here."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import export

from firsttoken.backends.executorch.lower import delegate, quiet_libraries, write
from firsttoken.backends.executorch.quantize import read_linear
from firsttoken.backends.executorch.runner import import_runtime, set_threads
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import Layer
from firsttoken.progress import silent
from firsttoken.quiet import quiet_runtime

SEED = 20261129


class Between(nn.Module):
    """The layer between the FP32 states that the decoder has."""

    def __init__(self, linear: nn.Module, half: bool) -> None:
        super().__init__()
        self.linear, self.half_precision = linear, half

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.half()).float() if self.half_precision else self.linear(x)


def one_layer(
    checkpoint: Checkpoint, layer: Layer, precision: str, group_size: int, tokens: int, path: Path, threads: int, apart: bool = False
) -> Callable[[], np.ndarray]:
    """Writes ``layer`` to ``path`` as the decoder has it, FP32 ``[1, tokens, columns]`` in and ``[1, tokens, rows]`` out, and loads it; returns
    what runs it once and gives its result. Raises `FirstTokenError` for damaged weights, and where XNNPACK does not take it."""
    _, (_, columns) = layer.matrix
    module = Between(read_linear(checkpoint, layer, precision, group_size, apart), precision == "fp16").eval()
    given = torch.from_numpy(np.random.default_rng(SEED).standard_normal((1, tokens, columns), np.float32))
    with torch.no_grad(), quiet_libraries():
        write(delegate(export(module, (given,), strict=False), {}), path, silent)
    with quiet_runtime():
        _, runtime = import_runtime()
        set_threads(runtime, threads)
        program = runtime._load_program(str(path))
        method = program.load_method("forward")

    def run() -> np.ndarray:
        [found] = method.call([given], clone_outputs=False)
        return found.numpy().reshape(tokens, -1).copy()  # the program's memory goes with the program

    run.program = program  # type: ignore[attr-defined]  # the method does not keep it
    return run
