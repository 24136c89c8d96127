"""What is derived from single runs: median, minimum, 90th percentile, mean and standard deviation.

None of it is stored in a measurement file. Everything here is pure and needs no package.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from firsttoken.measure.measurement import Result, Run

STAGES = ("load", "tokenize", "prefill", "sample", "detokenize", "render")  # in the order they happen
STATES = ("cold", "warm")  # what is reported; a "warm-up" run never is
FEW = 11  # with fewer values than this, the 90th percentile lies between the two largest


@dataclass(frozen=True)
class Summary:
    """Figures of a list of values, in the unit of the values. ``deviation`` is absent for a single value."""

    count: int
    median: float
    minimum: float
    maximum: float
    p90: float
    mean: float
    deviation: float | None

    @property
    def p90_note(self) -> str:
        """Says what the 90th percentile of so few values is; empty where there are enough of them."""
        if self.count == 1:
            return "one run: p90 is that run"
        return f"{self.count} runs: p90 lies between the two largest" if self.count < FEW else ""


@dataclass(frozen=True)
class RunSummary:
    """Figures of one or more runs of one prompt length and state. A figure that no run has is absent.

    ``first_token`` and ``stages`` are nanoseconds, ``decode_speed`` tokens per second, ``peak_memory`` bytes.
    """

    first_token: Summary
    stages: dict[str, Summary]
    decode_speed: Summary | None
    peak_memory: Summary | None


def summarize(values: Iterable[float | None]) -> Summary | None:
    """Returns the figures of ``values``, those that are None left out, or None where nothing is left; see `summary_of`."""
    known = [value for value in values if value is not None]
    return summary_of(known) if known else None


def summary_of(values: Iterable[float]) -> Summary:
    """Returns the figures of one or more values.

    The 90th percentile interpolates linearly between the sorted values at position ``0.9 (n - 1)`` (type 7 of Hyndman
    and Fan, Sample Quantiles in Statistical Packages, The American Statistician 50(4), 1996; numpy's default). So
    with 5 runs it is ``0.4 * second largest + 0.6 * largest``, and up to 10 runs it always lies between the two largest: a hint, not a tail.
    The deviation is the sample's, divided by ``n - 1``.
    """
    known = sorted(map(float, values))
    single = len(known) == 1
    return Summary(
        count=len(known),
        median=statistics.median(known),
        minimum=known[0],
        maximum=known[-1],
        p90=known[0] if single else statistics.quantiles(known, n=10, method="inclusive")[8],
        mean=statistics.fmean(known),
        deviation=None if single else statistics.stdev(known),
    )


def groups(result: Result) -> dict[tuple[int, str], list[Run]]:
    """Returns the runs of each ``(prompt tokens, "cold" or "warm")``, shortest prompt first and cold before warm, warm-up left out."""
    made: dict[tuple[int, str], list[Run]] = {}
    for run in result.runs:
        if run.state in STATES:
            made.setdefault((run.prompt_tokens, run.state), []).append(run)
    return dict(sorted(made.items()))


def first_token(run: Run) -> float:
    """Returns a run's TTFT in nanoseconds."""
    return float(run.stages.first_token)


def decode_speed(run: Run) -> float | None:
    """Returns a run's tokens per second after the first token, or None where it decoded none."""
    return 1e9 * run.decode.tokens / run.decode.nanoseconds if run.decode else None


def summarize_runs(runs: list[Run]) -> RunSummary:
    """Returns the figures of one or more ``runs``: TTFT, every stage that some run has, decode speed and peak memory."""
    stages = {stage: summarize(getattr(run.stages, stage) for run in runs) for stage in STAGES}
    return RunSummary(
        first_token=summary_of(map(first_token, runs)),
        stages={stage: summary for stage, summary in stages.items() if summary},
        decode_speed=summarize(decode_speed(run) for run in runs),
        peak_memory=summarize(run.peak_memory_bytes for run in runs),
    )


def middle_stages(runs: list[Run]) -> dict[str, float]:
    """Returns the stages, in nanoseconds, of the run in the middle by TTFT; of the two in the middle their mean.

    They add up to the median TTFT, which the medians of the single stages do not. Empty where there are no runs.
    """
    if not runs:
        return {}
    ordered = sorted(runs, key=first_token)
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    means = {stage: statistics.fmean(getattr(run.stages, stage) or 0 for run in middle) for stage in STAGES}
    return {stage: value for stage, value in means.items() if any(getattr(run.stages, stage) is not None for run in middle)}
