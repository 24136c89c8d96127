"""What running an artifact on the software GPU takes: seconds and memory, before it starts.

Measured on a machine of two cores with the demo checkpoint, SmolLM2 (135 M weights) and a checkpoint of Qwen2.5-0.5B's shape (docs/gpu.md).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MIB = 1 << 20
BASE_BYTES = 170 * MIB  # LiteRT, Vulkan and numpy
GRAPH_BYTES, WEIGHT_BYTES = 50 * MIB, 10  # of each graph, and of each of its weights, whatever it is stored in
LOAD_SECONDS, LOADED_WEIGHT = 0.6, 1.5e-8  # the same; its kernels are compiled
CALL, DECODED_WEIGHT, ROW_WEIGHT = 0.15, 1.6e-8, 4e-9  # seconds of a call, of a weight in decode, of a weight for a row of prefill


@dataclass(frozen=True)
class Cost:
    seconds: float
    memory: int  # bytes, peak resident


def running_cost(weights: int, lengths: Sequence[int], steps: Iterable[tuple[str, int, int]]) -> Cost:
    """Estimates loading decode and prefill graphs of ``lengths`` tokens, and running ``steps`` (kind, start, stop; in tokens) on a model of so many weights."""
    graphs = len(lengths) + 1
    seconds = graphs * (LOAD_SECONDS + LOADED_WEIGHT * weights)
    for _, start, stop in steps:
        left = stop - start - 1  # the last one goes through decode
        seconds += CALL + DECODED_WEIGHT * weights
        while left > 0:
            length = next((one for one in lengths if one >= left), lengths[-1])
            seconds += CALL + ROW_WEIGHT * weights * length
            left -= length
    return Cost(seconds, BASE_BYTES + int(graphs * (GRAPH_BYTES + WEIGHT_BYTES * weights)))
