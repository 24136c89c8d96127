"""Is B faster than A beyond the noise? An interval of the ratio of their times, from what whole processes gave.

Runs of one process share what that process got: addresses, pages, cores. So a process counts as one observation, its runs' median, and the interval is
Welch's over the logarithms of those (Kalibera and Jones, Rigorous benchmarking in reasonable time, ISMM 2013, section 6: only the means of the top level
matter). A bootstrap that resamples processes and runs calls 11 % of equal sides different at 5 processes with a level each, and finds a tenth's difference beside
hiccups in 54 % of the cases where this finds it in 83 % (`scripts/benchmarks/comparison_coverage.py`).
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from firsttoken.measure.measurement import Result, Run
from firsttoken.measure.student_t import LARGEST, quantile, within
from firsttoken.measure.summary import decode_speed, first_token, groups

CONFIDENCE = 0.95
POWER = 0.8  # of the smallest difference that is called visible
# With 3 processes on each side equal ones are called different in 2 to 4 % of the cases, a level for each process included.
FEWEST_PROCESSES = 3
Figure = Literal["first token", "decode"]
Verdict = Literal["faster", "slower", "cannot tell"]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast B is as A: above 1 B is the faster one. ``interval`` bounds it, low and high; absent with too few processes.

    ``chance`` is the probability that equal sides look as different as these or more, among ``among`` comparisons together (`corrected`). ``visible`` is the smallest
    difference, as a ratio above 1, that would have been found in 80 of 100 such measurements.
    """

    value: float
    interval: tuple[float, float] | None
    chance: float | None = None
    visible: float | None = None
    among: int = 1

    @property
    def verdict(self) -> Verdict:
        """Whether B is faster or slower beyond the noise; "cannot tell" where the interval includes 1, or where chance alone gives as much among so many comparisons."""
        if self.interval is None or self.interval[0] <= 1 <= self.interval[1] or (self.chance is not None and self.chance > 1 - CONFIDENCE):
            return "cannot tell"
        return "faster" if self.interval[0] > 1 else "slower"

    @property
    def span(self) -> str:
        """The interval in words; empty where there is none."""
        return f"{times(self.interval[0])} to {times(self.interval[1])}" if self.interval else ""


@dataclass(frozen=True)
class Comparison:
    """One figure of two bundles at one prompt length and state. Medians of all runs are nanoseconds (first token) or tokens per second (decode);
    ``processes`` is how many of each side, ``count`` how many runs."""

    prompt_tokens: int
    state: str
    figure: Figure
    count_a: int
    count_b: int
    processes_a: int
    processes_b: int
    median_a: float
    median_b: float
    ratio: Ratio

    @property
    def reason(self) -> str:
        """The verdict in words, with what it rests on."""
        ratio, fewest = self.ratio, min(self.processes_a, self.processes_b)
        if ratio.interval is None or ratio.visible is None:
            return f"cannot tell: {self.too_few}"
        if ratio.verdict != "cannot tell":
            return f"{ratio.verdict}: {ratio.span}× as fast"
        by_chance = "" if ratio.interval[0] <= 1 <= ratio.interval[1] else f", which one of {ratio.among} comparisons may give by chance"
        seen = f"with {fewest} processes a difference of {ratio.visible - 1:.1%} was visible"
        return f"cannot tell: {ratio.span}× as fast{by_chance}; {seen}"

    @property
    def too_few(self) -> str:
        """What there is too little of for an interval."""
        fewest = min(self.processes_a, self.processes_b)
        return f"{fewest} {'process' if fewest == 1 else 'processes'} on one side, at least {FEWEST_PROCESSES} needed"


def times(ratio: float) -> str:
    """Returns a ratio with as many digits as tell it from 1."""
    return f"{ratio:.3f}" if 0.95 < ratio < 1.05 else f"{ratio:.2f}"


def compare_values(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], *, larger_is_faster: bool) -> Ratio:
    """Returns how many times as fast B is as A; ``a`` and ``b`` hold the values of each process's runs, all above 0.

    A side is the geometric mean of its processes' medians. The interval is Welch's at 95 % on their logarithms, with the degrees of freedom rounded down;
    with fewer than `FEWEST_PROCESSES` on a side there is none. What moves both sides at once while they take turns (heat, other work) only widens it.
    """
    if not a or not b or not all(a) or not all(b) or min(value for side in (a, b) for process in side for value in process) <= 0:
        raise ValueError("both sides need at least one process with at least one value, all of them above 0")
    top, bottom = ([math.log(statistics.median(process)) for process in side] for side in ((b, a) if larger_is_faster else (a, b)))
    difference = statistics.fmean(top) - statistics.fmean(bottom)
    if min(len(a), len(b)) < FEWEST_PROCESSES:
        return Ratio(math.exp(difference), None)
    parts = [statistics.variance(side) / len(side) for side in (top, bottom)]
    error = math.sqrt(sum(parts))
    if not error:  # every process gave the same
        return Ratio(math.exp(difference), (math.exp(difference), math.exp(difference)), float(difference == 0), 1.0)
    freedom = sum(parts) ** 2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, (top, bottom), strict=True))
    whole = min(LARGEST, max(1, math.floor(freedom + 1e-9)))
    reach = quantile((1 + CONFIDENCE) / 2, whole) * error
    seen = reach + quantile(POWER, whole) * error
    return Ratio(
        math.exp(difference),
        (math.exp(difference - reach), math.exp(difference + reach)),
        1 - within(difference / error, whole),
        math.exp(seen),
    )


def reach_of_level(processes: Sequence[Sequence[float]]) -> float | None:
    """How far, as a share of it, the level that these processes came from may lie from theirs, at 95 %; None with fewer than `FEWEST_PROCESSES`."""
    if len(processes) < FEWEST_PROCESSES or min(value for process in processes for value in process) <= 0:
        return None
    levels = [math.log(statistics.median(process)) for process in processes]
    return math.exp(quantile((1 + CONFIDENCE) / 2, len(levels) - 1) * statistics.stdev(levels) / math.sqrt(len(levels))) - 1


def level_of(processes: Sequence[Sequence[float]]) -> float:
    """The geometric mean of the processes' medians, all above 0: what `reach_of_level` is the reach of."""
    return statistics.geometric_mean([statistics.median(process) for process in processes])


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Returns the comparisons with ``chance`` as it is where all of them are looked at together (Holm, A simple sequentially rejective multiple test procedure,
    Scandinavian Journal of Statistics 6, 1979): that any of equal sides is called different stays below 5 %."""
    tested = sorted((c.ratio.chance, place) for place, c in enumerate(comparisons) if c.ratio.chance is not None)
    made, least = list(comparisons), 0.0
    for rank, (chance, place) in enumerate(tested):
        least = max(least, min(1.0, chance * (len(tested) - rank)))
        made[place] = replace(made[place], ratio=replace(made[place].ratio, chance=least, among=len(tested)))
    return made


def corrected_together(sides: Sequence[Sequence[Comparison]]) -> list[list[Comparison]]:
    """`corrected` over all of several lists together."""
    left = iter(corrected([comparison for one in sides for comparison in one]))
    return [[next(left) for _ in one] for one in sides]


def by_process(runs: Iterable[Run], measure: Callable[[Run], float | None]) -> list[list[float]]:
    """The values of each process's runs. A cold run is a process of its own; warm runs that do not say theirs are of one."""
    found: dict[object, list[float]] = {}
    for place, run in enumerate(runs):
        value = measure(run)
        if value is not None:
            found.setdefault((place,) if run.state == "cold" else run.process, []).append(value)
    return list(found.values())


def compare_runs(prompt_tokens: int, state: str, a: list[Run], b: list[Run]) -> list[Comparison]:
    """Compares TTFT, and decode speed where both sides decoded, of runs of the same prompt length and state."""
    made = []
    measures: dict[Figure, Callable[[Run], float | None]] = {"first token": first_token, "decode": decode_speed}
    for figure, measure in measures.items():
        sides = [by_process(runs, measure) for runs in (a, b)]
        flat = [[value for process in side for value in process] for side in sides]
        # a TTFT of 0 ns is no measurement; a ratio to it says nothing
        if not all(flat) or min(map(min, flat)) <= 0:
            continue
        ratio = compare_values(*sides, larger_is_faster=figure == "decode")
        made.append(
            Comparison(
                prompt_tokens, state, figure, len(flat[0]), len(flat[1]), len(sides[0]), len(sides[1]),
                statistics.median(flat[0]), statistics.median(flat[1]), ratio,
            )
        )  # fmt: skip
    return made


def compare_results(a: Result, b: Result) -> list[Comparison]:
    """Compares everything that both sides measured: TTFT first, shortest prompt first, cold before warm."""
    sides = groups(a), groups(b)
    made = [comparison for key in sides[0] if key in sides[1] for comparison in compare_runs(*key, sides[0][key], sides[1][key])]
    return sorted(made, key=lambda comparison: (comparison.figure == "decode", comparison.prompt_tokens, comparison.state))
