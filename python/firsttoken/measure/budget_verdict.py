"""A measurement held against a budget: kept, missed, or not known well enough to say."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from firsttoken.atomic_file import write_text
from firsttoken.errors import FirstTokenError
from firsttoken.measure.budget import AT_LEAST, PROOF, RELATIVE, SPEED, Budget, Budgets
from firsttoken.measure.compare import by_process, compare_runs, level_of, reach_of_level
from firsttoken.measure.measurement import Measurement, Result, Run
from firsttoken.measure.pairing import Pair, match
from firsttoken.measure.summary import decode_speed, first_token, groups, summarize
from firsttoken.safe_text import visible

MIB = 1 << 20
BUSY = 0.25  # cores that others kept busy


@dataclass(frozen=True)
class LimitVerdict:
    """One limit on one bundle, and a line that says with the figures how it was decided.

    "unclear": the limit lies within the interval, so that this measurement cannot tell. ``busy``: other work ran beside the runs it was decided on; ``what`` tells the limit from others of that name.
    """

    outcome: Literal["kept", "missed", "unclear"]
    line: str
    bundle: str = ""
    limit: str = ""
    busy: bool = False
    what: str = ""

    @property
    def kept(self) -> bool:
        """Whether it is not missed: what is unclear is no reason to fail."""
        return self.outcome != "missed"


@dataclass(frozen=True)
class Found:
    """A figure, how it was taken, and the interval that it is known to lie in; absent where it has none, or too few processes ran."""

    value: float
    how: str
    interval: tuple[float, float] | None = None


def check_budget(budgets: Budgets, measurement: Measurement, baseline: Measurement | None = None) -> list[LimitVerdict]:
    """Returns a verdict for every limit on every bundle it holds for. A limit that was not measured, because runs failed, is missed.

    Raises `FirstTokenError` for a relative limit without a ``baseline``, or one that has not the bundle.
    """
    if budgets.is_relative and baseline is None:
        raise FirstTokenError(f"{' and '.join(RELATIVE)} are limits against an earlier measurement; give its file with --baseline")
    before = (
        {} if baseline is None else {id(pair.b): pair for pair in match(baseline, measurement).pairs if _bundle(pair.a) == _bundle(pair.b)}
    )
    return [
        _verdict(budget, result, name, limit, before.get(id(result)))
        for budget in budgets.budgets
        for result in measurement.results
        if fnmatchcase(result.bundle.name, budget.bundle)
        for name, limit in budget.limits.items()
    ]


def _bundle(result: Result) -> tuple[str, str, str]:
    return result.bundle.checkpoint, result.bundle.plan, result.bundle.target


def _verdict(budget: Budget, result: Result, name: str, limit: float, pair: Pair | None) -> LimitVerdict:
    title, where = visible(result.title), f" at {budget.prompt_tokens} tokens, {budget.state}" if name in SPEED else ""
    if name in RELATIVE:
        if pair is None:
            raise FirstTokenError(
                f"{name}: the baseline has no {title} (same checkpoint, plan and target); measure it too, or leave the limit out"
            )
        if not any(name != "decode_times" or run.decode for run in _runs(budget, pair.a)):
            raise FirstTokenError(f"{name}: the baseline has no run of {title}{where}; measure it there too, or leave the limit out")
    found = _figure(budget, result, name, None if pair is None else pair.a)
    case = f"{name}{where}"
    what = f"{title}: {case}"
    if found is None:
        return LimitVerdict("missed", f"missed  {what}: not measured, limit {limit:g}", title, name, what=case)
    outcome, known = _decide(found, limit, name in AT_LEAST)
    busy = name in SPEED and max((run.other_load or 0 for run in _runs(budget, result)), default=0) > BUSY
    line = f"{outcome:7} {what}: {found.value:.4g} ({found.how}{known}), {'at least' if name in AT_LEAST else 'at most'} {limit:g}"
    if name in RELATIVE and pair is not None and pair.differences:
        line += f"; NOT LIKE FOR LIKE: {visible('; '.join(pair.differences), 1000)}"
    return LimitVerdict(outcome, line, title, name, busy, case)


def _decide(found: Found, limit: float, at_least: bool) -> tuple[Literal["kept", "missed", "unclear"], str]:
    """By the interval where there is one: missed if all of it lies beyond the limit, unclear if the limit lies within."""
    low, high = found.interval or (found.value, found.value)
    known = f"; known to lie from {low:.4g} to {high:.4g}" if found.interval else ""
    if at_least:
        return ("kept" if low >= limit else "missed" if high < limit else "unclear"), known
    return ("kept" if high <= limit else "missed" if low > limit else "unclear"), known


def _runs(budget: Budget, result: Result) -> list[Run]:
    return groups(result).get((budget.prompt_tokens or 0, budget.state), [])


def _figure(budget: Budget, result: Result, name: str, before: Result | None) -> Found | None:
    """The figure that a limit is held against; None where it was not measured."""
    if name == "artifact_mib":
        return Found(result.ran_bytes / MIB, "file")
    if name in PROOF:
        return Found(getattr(result.proof, name), "proof") if result.proof else None
    if name == "peak_memory_mib":
        peaks = [
            run.peak_memory_bytes for run in result.runs if run.peak_memory_bytes and (run.state == "cold") == (budget.state == "cold")
        ]
        return Found(max(peaks) / MIB, f"most of all {budget.state} runs") if peaks else None
    if name in RELATIVE:
        return _relative(budget, result, name, before)
    measure = {
        "first_token_ms": _milliseconds,
        "first_token_p90_ms": _milliseconds,
        "load_ms": _load,
        "decode_tokens_per_second": decode_speed,
    }[name]
    runs = _runs(budget, result)
    summary = summarize(map(measure, runs))
    if summary is None:
        return None
    count = f"of {summary.count}, {summary.minimum:.4g} to {summary.maximum:.4g}"
    if name == "first_token_p90_ms":
        return Found(summary.p90, f"90th percentile {count}")
    processes = by_process(runs, measure)
    reach = reach_of_level(processes)
    # of the processes' level, which the reach is of: the median of all runs may be one mode's
    level = level_of(processes) if reach else summary.median  # of equal processes exactly theirs
    interval = None if reach is None else (level / (1 + reach), level * (1 + reach))
    return Found(summary.median, f"median {count}", interval)


def _relative(budget: Budget, result: Result, name: str, before: Result | None) -> Found | None:
    assert before is not None and budget.prompt_tokens is not None, "a relative limit has a prompt length (Budget._whole) and a baseline"
    figure = "first token" if name == "first_token_times" else "decode"
    compared = compare_runs(budget.prompt_tokens, budget.state, _runs(budget, before), _runs(budget, result))
    one = next((each for each in compared if each.figure == figure), None)
    if one is None:
        return None
    ratio, interval = one.ratio.value, one.ratio.interval
    if figure == "first token":  # times as long, where the comparison says times as fast
        ratio, interval = 1 / ratio, interval and (1 / interval[1], 1 / interval[0])
    return Found(ratio, "times the baseline's", interval)


def _milliseconds(run: Run) -> float:
    return first_token(run) / 1e6


def _load(run: Run) -> float | None:
    return None if run.stages.load is None else run.stages.load / 1e6


def junit(verdicts: list[LimitVerdict]) -> str:
    """The verdicts as JUnit's XML, which continuous integrations show: a test for each limit, unclear ones skipped."""
    outcomes = [verdict.outcome for verdict in verdicts]
    counts = {"tests": len(outcomes), "failures": outcomes.count("missed"), "skipped": outcomes.count("unclear")}
    suite = ElementTree.Element("testsuite", {"name": "firsttoken budget", **{name: str(count) for name, count in counts.items()}})
    for verdict in verdicts:
        case = ElementTree.SubElement(suite, "testcase", {"classname": visible(verdict.bundle), "name": verdict.what or verdict.limit})
        if verdict.outcome != "kept":
            ElementTree.SubElement(case, "failure" if verdict.outcome == "missed" else "skipped", {"message": visible(verdict.line, 1000)})
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def write_junit(path: Path, verdicts: list[LimitVerdict]) -> None:
    """Writes `junit` whole or not at all. Raises `FirstTokenError`."""
    write_text(path, junit(verdicts))


def tell(verdicts: list[LimitVerdict]) -> str | None:
    """What to say of limits that are not known well enough; None where all are."""
    unclear = sum(verdict.outcome == "unclear" for verdict in verdicts)
    if not unclear:
        return None
    return f"{unclear} of {len(verdicts)} limits lie within what is known of the figure, and count as kept; measure more processes, or with --until 3%"
