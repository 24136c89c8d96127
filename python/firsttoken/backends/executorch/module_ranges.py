"""What range of numbers the tensors around a convolution have on samples, in memory that does not grow with them, and the integers that follow."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from firsttoken.errors import FirstTokenError

BINS = 4096
INSIDE = 0.9999
"""The share of the values that "percentile" keeps."""
SHRINKS = [1 - step / 64 for step in range(56)]
"""The shares of the whole range that "mse" tries."""
LOW, HIGH = -128, 127


@dataclass(frozen=True)
class Rounding:
    """``scale * (integer - zero_point)`` with int8 integers."""

    scale: float
    zero_point: int


@dataclass
class Values:
    """What was seen of a tensor: its ends, and how often which part of the range between them."""

    low: float = 0.0
    high: float = 0.0
    counts: np.ndarray | None = None
    finite: bool = True

    def widen(self, values: Tensor) -> None:
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        self.finite = self.finite and bool(torch.isfinite(values).all())

    def count(self, values: Tensor) -> None:
        found = torch.histc(values.float(), BINS, self.low, self.high).numpy()
        self.counts = found if self.counts is None else self.counts + found

    def rounding(self, method: str) -> Rounding:
        """By "min-max", "percentile" or "mse". Zero, which pads, is always one of the numbers."""
        if method == "min-max" or self.high == self.low:
            return rounded(self.low, self.high)
        counts = self.counts
        assert counts is not None, "the values were counted for this method"
        centers = self.low + (np.arange(BINS) + 0.5) * (self.high - self.low) / BINS
        if method == "percentile":
            below = np.cumsum(counts) / counts.sum()
            low, high = (centers[min(int(np.searchsorted(below, share)), BINS - 1)] for share in (1 - INSIDE, INSIDE))
            return rounded(min(float(low), 0.0), max(float(high), 0.0))
        tried = [rounded(self.low * share, self.high * share) for share in SHRINKS]
        return min(tried, key=lambda one: float((counts * (nearest(centers, one) - centers) ** 2).sum()))


def rounded(low: float, high: float) -> Rounding:
    scale = max((high - low) / (HIGH - LOW), 1e-6)
    return Rounding(scale, int(np.clip(round(LOW - low / scale), LOW, HIGH)))


def nearest(values: np.ndarray, one: Rounding) -> np.ndarray:
    """The numbers that the integers stand for which values become."""
    return one.scale * (np.clip(np.round(values / one.scale) + one.zero_point, LOW, HIGH) - one.zero_point)


class Watch(Interpreter):
    """Runs a graph and shows some nodes' tensors to what watches them; nothing is kept."""

    def __init__(self, graph: GraphModule, seen: Mapping[Node, Values], counting: bool) -> None:
        super().__init__(graph)
        self.seen, self.counting = seen, counting

    def run_node(self, n: Node) -> object:
        found = super().run_node(n)
        if n in self.seen and isinstance(found, Tensor):
            (self.seen[n].count if self.counting else self.seen[n].widen)(found.detach())
        return found


def values_of(graph: GraphModule, nodes: Sequence[Node], samples: Sequence[np.ndarray], batch: int, counted: bool) -> dict[Node, Values]:
    """What the nodes' tensors were on samples, given in the order of the graph's inputs; ``counted`` runs them twice.

    Raises `FirstTokenError` where there are none, or they make something that is no number.
    """
    if not samples or not len(samples[0]):
        raise FirstTokenError(
            "a layer in int8-static needs the ranges of its inputs, and there are no samples; give some (--samples), or another precision"
        )
    seen = {node: Values() for node in nodes}
    with torch.no_grad():
        for counting in (False, True)[: 1 + counted]:
            watch = Watch(graph, seen, counting)
            for inputs in batches(samples, batch):
                watch.run(*inputs)
            wrong = next((node for node, values in seen.items() if not values.finite), None)
            if wrong is not None:
                raise FirstTokenError(f"the samples make {wrong.name!r} infinite or no number; expected what the module is used on")
    return seen


def batches(samples: Sequence[np.ndarray], size: int) -> Iterator[tuple[Tensor, ...]]:
    """The samples in batches of exactly ``size``; the last is filled with its last sample."""
    for start in range(0, len(samples[0]), size):
        taken = [part[start : start + size] for part in samples]
        filled = [np.concatenate([part, np.repeat(part[-1:], size - len(part), 0)]) for part in taken]
        yield tuple(torch.from_numpy(np.ascontiguousarray(part)) for part in filled)
