"""Is B faster than A beyond the noise? A bootstrap interval of the ratio of their medians, from the single runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy

from firsttoken.measure.measurement import Result, Run
from firsttoken.measure.summary import decode_speed, first_token, groups

CONFIDENCE = 0.95
RESAMPLES = 10_000
# With 5 runs each, equal bundles are called different in 3 to 4 % of the cases, with 4 in 7 %: more than the 5 % that the interval
# promises (scripts/benchmarks/comparison_coverage.py).
FEWEST_RUNS = 5
Figure = Literal["first token", "decode"]
Verdict = Literal["faster", "slower", "cannot tell"]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast B is as A: above 1 B is the faster one. ``interval`` bounds it, low and high; absent with too few runs."""

    value: float
    interval: tuple[float, float] | None

    @property
    def verdict(self) -> Verdict:
        """Whether B is faster or slower beyond the noise; "cannot tell" where the interval includes 1 or there is none."""
        if self.interval is None or self.interval[0] <= 1 <= self.interval[1]:
            return "cannot tell"
        return "faster" if self.interval[0] > 1 else "slower"

    @property
    def span(self) -> str:
        """The interval in words; empty where there is none."""
        return f"{times(self.interval[0])} to {times(self.interval[1])}" if self.interval else ""


@dataclass(frozen=True)
class Comparison:
    """One figure of two bundles at one prompt length and state. Medians are nanoseconds (first token) or tokens per second (decode)."""

    prompt_tokens: int
    state: str
    figure: Figure
    count_a: int
    count_b: int
    median_a: float
    median_b: float
    ratio: Ratio

    @property
    def reason(self) -> str:
        """The verdict in words, with what it rests on."""
        ratio, fewest = self.ratio, min(self.count_a, self.count_b)
        if ratio.interval is None:
            return f"cannot tell: {fewest} {'run' if fewest == 1 else 'runs'} on one side, at least {FEWEST_RUNS} needed"
        return f"{ratio.verdict}: {ratio.span}× as fast"


def times(ratio: float) -> str:
    """Returns a ratio with as many digits as tell it from 1."""
    return f"{ratio:.3f}" if 0.95 < ratio < 1.05 else f"{ratio:.2f}"


def bootstrap_medians(values: Sequence[float], random: numpy.random.Generator, resamples: int = RESAMPLES) -> numpy.ndarray:
    """Returns the medians, ``[resamples]``, of random resamples with replacement of ``values``, each as long as ``values``.

    A resample's k-th smallest value is ``sorted(values)[floor(n U)]``, U being the k-th smallest of n uniform numbers,
    which is Beta(k, n - k + 1) distributed (David and Nagaraja, Order Statistics, 3rd ed., 2003, section 2.1 and 2.3). Drawing U
    directly gives the same distribution as drawing n values each time, at a cost that does not grow with n.
    """
    ordered = numpy.sort(numpy.asarray(values, dtype=float))
    count = len(ordered)
    lower = (count + 1) // 2  # rank of the median, or of the smaller of the two in the middle
    first = random.beta(lower, count - lower + 1, resamples)

    def at(uniform: numpy.ndarray) -> numpy.ndarray:
        return ordered[numpy.minimum((uniform * count).astype(int), count - 1)]

    if count % 2:
        return at(first)
    # given the k-th, the next one is the smallest of the n - k uniform numbers above it
    second = first + (1 - first) * random.beta(1, count - lower, resamples)
    return (at(first) + at(second)) / 2


def compare_values(
    a: Sequence[float], b: Sequence[float], *, larger_is_faster: bool, seed: int = 0, resamples: int = RESAMPLES, fewest: int = FEWEST_RUNS
) -> Ratio:
    """Returns how many times as fast B is as A, with the percentile bootstrap interval of the ratio of the medians.

    Both sides are resampled independently; the interval runs from the 2.5th to the 97.5th percentile of the resampled
    ratios; with fewer than ``fewest`` values on a side there is none (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16). Percentile and not BCa,
    whose acceleration comes from the jackknife, which is inconsistent for a median (the same, section 11.6). The same values
    and seed always give the same interval. It takes the runs of a side as independent draws; what moves both
    sides at once while they take turns (heat, other work) only widens it.
    """
    if not len(a) or not len(b) or min(*a, *b) <= 0:
        raise ValueError("both sides need at least one value, all of them above 0")
    top, bottom = (b, a) if larger_is_faster else (a, b)
    value = float(numpy.median(top) / numpy.median(bottom))
    if min(len(a), len(b)) < fewest:
        return Ratio(value, None)
    # streams go by the values, not by the side, so that swapping the sides inverts the interval exactly
    streams = (0, 1) if sorted(top) <= sorted(bottom) else (1, 0)
    logs = [
        numpy.log(bootstrap_medians(side, numpy.random.default_rng([seed, stream]), resamples))
        for side, stream in zip((top, bottom), streams, strict=True)
    ]
    low, high = numpy.exp(numpy.quantile(logs[0] - logs[1], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    return Ratio(value, (float(low), float(high)))


def compare_runs(prompt_tokens: int, state: str, a: list[Run], b: list[Run]) -> list[Comparison]:
    """Compares TTFT, and decode speed where both sides decoded, of runs of the same prompt length and state."""
    made = []
    measures: dict[Figure, Callable[[Run], float | None]] = {"first token": first_token, "decode": decode_speed}
    for figure, measure in measures.items():
        of_a, of_b = ([value for run in runs if (value := measure(run)) is not None] for runs in (a, b))
        # a TTFT of 0 ns is no measurement; a ratio to it says nothing
        if not of_a or not of_b or min(*of_a, *of_b) <= 0:
            continue
        ratio = compare_values(of_a, of_b, larger_is_faster=figure == "decode")
        medians = float(numpy.median(of_a)), float(numpy.median(of_b))
        made.append(Comparison(prompt_tokens, state, figure, len(of_a), len(of_b), *medians, ratio))
    return made


def compare_results(a: Result, b: Result) -> list[Comparison]:
    """Compares everything that both sides measured: TTFT first, shortest prompt first, cold before warm."""
    sides = groups(a), groups(b)
    made = [comparison for key in sides[0] if key in sides[1] for comparison in compare_runs(*key, sides[0][key], sides[1][key])]
    return sorted(made, key=lambda comparison: (comparison.figure == "decode", comparison.prompt_tokens, comparison.state))
