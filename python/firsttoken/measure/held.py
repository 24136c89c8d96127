"""A bench that is held against a budget, and done again where other work may be why it missed one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from firsttoken.errors import FirstTokenError
from firsttoken.measure.bench import Bench, BenchSettings
from firsttoken.measure.budget import Budgets
from firsttoken.measure.budget_verdict import LimitVerdict, check_budget
from firsttoken.measure.measurement import Measurement, read_measurement
from firsttoken.progress import Report, silent


@dataclass
class Held:
    """The last bench, and its verdicts; none without a budget."""

    bench: Bench
    measurement: Measurement
    verdicts: list[LimitVerdict] = field(default_factory=list)


def measure_held(
    bundles: Sequence[str | Path],
    settings: BenchSettings,
    limits: Budgets | None,
    baseline: Path | None,
    retries: int = 1,
    report: Report = silent,
    say: Callable[[str], None] = lambda line: None,
    begun: Callable[[Bench], None] = lambda bench: None,
) -> Held:
    """Measures ``bundles``; where a limit is missed or unclear and other work ran beside it, again, ``retries`` times at most. ``begun`` is given each bench before it runs.

    Raises `FirstTokenError` for bad input, limits that this would not answer and a ``baseline`` that has not the bundles.
    """
    if baseline is not None and limits is None:
        raise FirstTokenError("a baseline is for the limits of a budget; give one, or compare the files with firsttoken report")
    before = None if baseline is None else read_measurement(baseline)
    while True:
        bench = Bench(bundles, settings, report)
        if limits is not None:
            limits.check_answerable([result.bundle for result in bench.results], settings)
            check_budget(limits, bench.measurement, before)  # a baseline that lacks something is known before the work
        begun(bench)
        measurement = bench.run()
        verdicts = [] if limits is None else check_budget(limits, measurement, before)
        disturbed = [verdict for verdict in verdicts if verdict.outcome != "kept" and verdict.busy]
        if not disturbed or retries < 1:
            return Held(bench, measurement, verdicts)
        retries -= 1
        say(
            f"other work ran beside the runs of {disturbed[0].bundle}, of which {disturbed[0].limit} is {disturbed[0].outcome}; measuring again"
        )
