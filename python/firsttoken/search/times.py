"""What a layer's kernels take on this host: every shape in every precision, alone in a file of its own, for a prompt's call and for one token."""

import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firsttoken.backends.interface import Backend
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import Layer
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.search.candidates import Candidate

ROUNDS, LEAST_NANOSECONDS = 7, 2_000_000  # a round takes all of them in turn, each for so long at least


@dataclass(frozen=True)
class Shape:
    """What decides a layer's time, apart from its numbers."""

    rows: int
    columns: int
    precision: str
    group: int  # columns that share a scale
    apart: bool = False  # its input's outliers by themselves

    @classmethod
    def of(cls, layer: Layer, candidate: Candidate) -> "Shape":
        _, (rows, columns) = layer.matrix
        return cls(
            rows,
            columns,
            candidate.precision,
            candidate.group if isinstance(candidate.group, int) else columns,
            candidate.outliers is not None,
        )


@dataclass(frozen=True)
class Time:
    """Medians in nanoseconds: ``prefill`` of one call of ``tokens``, ``decode`` of one token."""

    prefill: float
    decode: float


@dataclass(frozen=True)
class Clock:
    """How long a layer takes: ``time`` of one shape, of which a prompt takes ``calls``. ``here``: measured on this machine, for prompts of ``prompt``
    tokens, so that bundles can be timed too."""

    time: Callable[[Shape], Time]
    calls: float
    prompt: int
    here: bool


def layer_times(
    checkpoint: Checkpoint,
    layers: Sequence[Layer],
    candidates: Mapping[str, Collection[Candidate]],
    backend: Backend,
    tokens: int,
    threads: int,
    report: Report = silent,
) -> dict[Shape, Time]:
    """Measures every shape that the candidates of linear layers have. Raises `FirstTokenError` where the backend gives no single layers."""
    shapes: dict[Shape, Layer] = {}
    for layer in layers:
        for candidate in candidates[layer.name] if layer.kind == "linear" else ():
            shapes.setdefault(Shape.of(layer, candidate), layer)
    with tempfile.TemporaryDirectory(prefix="firsttoken-layers-") as folder:
        runs: dict[tuple[Shape, int], Callable[[], np.ndarray]] = {}
        for done, (shape, layer) in enumerate(shapes.items()):
            report("build layers", done, len(shapes), "shapes")
            for count in (tokens, 1):
                path = Path(folder, f"{done}-{count}")
                run = backend.one_layer(checkpoint, layer, shape.precision, shape.group, count, path, threads, shape.apart)
                if not np.isfinite(run()).all():
                    raise FirstTokenError(
                        f"layer {layer.name!r} in {shape.precision}: gives NaN or infinite values alone; its time would mean nothing"
                    )
                runs[shape, count] = run
        report("build layers", len(shapes), len(shapes), "shapes")
        taken: dict[tuple[Shape, int], list[float]] = {key: [] for key in runs}
        for number in range(ROUNDS):
            report("time layers", number, ROUNDS, "rounds")
            for key, run in runs.items():
                taken[key].append(timed(run))
        report("time layers", ROUNDS, ROUNDS, "rounds")
    return {shape: Time(*(statistics.median(taken[shape, count]) for count in (tokens, 1))) for shape in shapes}


def timed(run: Callable[[], np.ndarray]) -> float:
    """Nanoseconds of one run: the mean over as many as fill `LEAST_NANOSECONDS`."""
    start, count = time.perf_counter_ns(), 0
    while (passed := time.perf_counter_ns() - start) < LEAST_NANOSECONDS or not count:
        run()
        count += 1
    return passed / count
