"""How often values occurred, and the range that a rounding to few steps should cover.

Bins are as wide as 1/64 of the values in them, whatever their size: a value's bin is its float32's sign, exponent and six bits of its fraction. So one pass
is enough, no range has to be known before it, and the same values give the same counts in any order.
"""

from dataclasses import dataclass, field

import numpy as np

from firsttoken.quant.plan import RangeMethod

FRACTION = 6  # bits
SHIFT = 23 - FRACTION
BINS = 1 << (32 - SHIFT)
POINTS = 4  # of a bin's width, at which the rounding error is taken
PERCENTILE = 99.999
CLIPS = 2.0 ** (-np.arange(192) / 16)  # of the largest magnitude, tried by "mse": down to 1/4096
OUTLIER_CHANNEL = 6.0
"""A channel is an outlier whose largest magnitude is more than this many times the median channel's."""
STEPS = {"int8": 255, "int16": 65534}


@dataclass
class Histogram:
    """Counts of float32 values, int64 ``[BINS]``, and the exact ends of their range."""

    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    low: float = np.inf
    high: float = -np.inf

    def add(self, values: np.ndarray) -> None:
        """Counts finite float32 values of any shape."""
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        self.counts += np.bincount(flat.view(np.uint32) >> np.uint32(SHIFT), minlength=BINS)
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Values float64 that stand for those counted, and how many each stands for."""
        bins = np.flatnonzero(self.counts).astype(np.uint32)
        inside = (np.arange(POINTS, dtype=np.uint32) * 2 + 1) * np.uint32((1 << SHIFT) // (2 * POINTS))
        values = ((bins << np.uint32(SHIFT))[:, None] + inside).view(np.float32).astype(np.float64)
        return np.clip(values.reshape(-1), self.low, self.high), np.repeat(self.counts[bins] / POINTS, POINTS)

    def range(self, method: RangeMethod, kind: str) -> tuple[float, float]:
        """The range to cover, low and high, for rounding to ``kind``: "int8" or "int16".

        "min-max" is all that occurred. The others cut it off at a magnitude: "percentile" at the smallest that `PERCENTILE` of the values do not exceed,
        "mse" at that of `CLIPS` with the least mean square of the rounding error, of values beyond it included.
        """
        largest = max(abs(self.low), abs(self.high))
        if method == "min-max" or largest == 0:
            return self.low, self.high
        if method == "percentile":
            return self._within(self._percentile())
        tried = [self._within(float(np.float32(largest * clip))) for clip in CLIPS]
        values, weights = self.points()
        return min(tried, key=lambda ends: mean_square(values, weights, ends[0], ends[1], kind))

    def _percentile(self) -> float:
        values, weights = self.points()
        order = np.argsort(np.abs(values), kind="stable")
        reached = np.searchsorted(np.cumsum(weights[order]), weights.sum() * PERCENTILE / 100)
        return float(np.float32(np.abs(values[order[min(reached, len(order) - 1)]])))

    def _within(self, magnitude: float) -> tuple[float, float]:
        return max(self.low, -magnitude), min(self.high, magnitude)

    def saturated(self, low: float, high: float) -> float:
        """The share of values beyond a range."""
        if low <= self.low and high >= self.high:
            return 0.0
        values, weights = self.points()
        return float(weights[(values < low) | (values > high)].sum() / weights.sum())

    def error(self, low: float, high: float, kind: str) -> float:
        """The root mean square of what rounding changes, with this range, as a part of the values' own."""
        values, weights = self.points()
        size = float((np.square(values) * weights).sum() / weights.sum())
        return float(np.sqrt(mean_square(values, weights, low, high, kind) / size)) if size else 0.0


@dataclass
class Seen:
    """What one layer met: its input, its product with the weight (without the bias), and the largest magnitude float32 ``[columns]`` of every input channel."""

    input: Histogram = field(default_factory=Histogram)
    output: Histogram = field(default_factory=Histogram)
    largest: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def outlier_channels(self) -> list[int]:
        """Those of the input, by `OUTLIER_CHANNEL`, the largest first."""
        beyond = np.flatnonzero(self.largest > OUTLIER_CHANNEL * np.median(self.largest))
        return [int(n) for n in beyond[np.argsort(-self.largest[beyond], kind="stable")]]


def mean_square(values: np.ndarray, weights: np.ndarray, low: float, high: float, kind: str) -> float:
    """The mean square of what rounding ``values`` to the steps of a range changes; ``weights`` says how often each occurs."""
    if kind == "int16":
        low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / STEPS[kind] or 1.0
    rounded = np.clip(np.rint(values / step), np.rint(low / step), np.rint(high / step)) * step
    return float((np.square(values - rounded) * weights).sum() / weights.sum())
