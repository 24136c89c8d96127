"""Which bundle of one measurement belongs to which of another, and whether comparing the two is like for like."""

import statistics
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from firsttoken.errors import FirstTokenError
from firsttoken.measure.compare import Comparison, compare_results, corrected_together
from firsttoken.measure.measurement import Measurement, Result
from firsttoken.measure.summary import groups

OTHER_LOAD = 0.25  # cores
WARMER = 5.0  # degrees Celsius
FREE_MEMORY = 1.0  # GiB


@dataclass(frozen=True)
class Pair:
    """Two results of the same checkpoint, plan and target.

    ``differences`` are what makes the comparison not like for like (empty: it is); ``changes`` are what may differ
    because it is what is being compared: the artifact, its proof.
    """

    a: Result
    b: Result
    differences: list[str]
    changes: list[str]
    comparisons: list[Comparison]


@dataclass(frozen=True)
class Matched:
    """What two measurements have in common, and the results that only one of them has."""

    pairs: list[Pair]
    only_a: list[Result]
    only_b: list[Result]


# From strict to loose: a result is paired at the first of these at which it has exactly one counterpart.
_KEYS: tuple[Callable[[Result], Hashable], ...] = (
    lambda r: (r.bundle.fingerprint, r.bundle.plan, r.bundle.target, r.threads, r.chat, r.draft, r.bundle.name, r.processor),
    lambda r: (r.bundle.fingerprint, r.bundle.plan, r.bundle.target, r.threads, r.chat, r.draft, r.ran_sha256, r.processor),
    lambda r: (r.bundle.fingerprint, r.bundle.plan, r.bundle.target, r.threads, r.chat, r.draft, r.processor),
    lambda r: (r.bundle.fingerprint, r.bundle.plan, r.bundle.target, r.threads, r.draft, r.processor),
    lambda r: (r.bundle.fingerprint, r.bundle.plan, r.bundle.target),
    lambda r: (r.bundle.checkpoint, r.bundle.plan, r.bundle.target, r.threads),
    lambda r: (r.bundle.checkpoint, r.bundle.plan, r.bundle.target),
)


def match(a: Measurement, b: Measurement) -> Matched:
    """Pairs the results of two measurements by bundle: checkpoint (content, then name), plan and target.

    Where that leaves several, the same threads, prompt template, drafts, name and artifact decide. Where each side has a single
    result and the two are not the same bundle, they are paired all the same and the difference is stated.
    """
    left, right = list(a.results), list(b.results)
    found: list[tuple[Result, Result]] = []
    for key in _KEYS:
        sides = [_unique(side, key) for side in (left, right)]
        for value in [value for value in sides[0] if value in sides[1]]:
            one, other = sides[0][value], sides[1][value]
            found.append((one, other))
            left, right = [r for r in left if r is not one], [r for r in right if r is not other]
    if not found and len(left) == len(right) == 1:
        found, left, right = [(left[0], right[0])], [], []
    # in the order of A
    found.sort(key=lambda pair: next(number for number, result in enumerate(a.results) if result is pair[0]))
    compared = corrected_together([compare_results(one, other) for one, other in found])
    pairs = [
        Pair(one, other, _differences(a, b, one, other), _changes(one, other), comparisons)
        for (one, other), comparisons in zip(found, compared, strict=True)
    ]
    return Matched(pairs, left, right)


def compare_measurements(a: Measurement, b: Measurement, name_a: str, name_b: str) -> Matched:
    """Does `match` and makes sure that something can be compared. Raises `FirstTokenError` naming the two files."""
    matched = match(a, b)
    if not matched.pairs:
        raise FirstTokenError(
            f"no bundle of {name_a} is in {name_b} (same checkpoint, plan and target): the first has {_listed(a.results)}, "
            f"the second {_listed(b.results)}; measure the same bundles, or one bundle in each file"
        )
    if not any(pair.comparisons for pair in matched.pairs):
        pair = matched.pairs[0]
        raise FirstTokenError(
            f"nothing to compare in {name_a} and {name_b}: {describe(pair.a)} has {_measured(pair.a)} in the first and {_measured(pair.b)} in the second; "
            "measure the same prompt lengths and states"
        )
    return matched


def describe(result: Result) -> str:
    """Returns checkpoint, plan and target of a result's bundle as text."""
    return ", ".join(
        [result.bundle.checkpoint, result.bundle.plan, result.bundle.target, *([result.processor] if result.processor else [])]
    )


def _unique(results: list[Result], key: Callable[[Result], Hashable]) -> dict[Hashable, Result]:
    keys = [key(result) for result in results]
    return {value: result for value, result in zip(keys, results, strict=True) if keys.count(value) == 1}


def _listed(results: list[Result]) -> str:
    names = [describe(result) for result in results]
    return "; ".join(names[:5]) + (f"; and {len(names) - 5} more" if len(names) > 5 else "")


def _measured(result: Result) -> str:
    found = groups(result)
    return ", ".join(f"{tokens} tokens {state}" for tokens, state in found) or "no runs"


def _differences(a: Measurement, b: Measurement, one: Result, other: Result) -> list[str]:
    """What makes the times of the two not comparable, or comparable only with that in mind."""
    sides = ((a, one), (b, other))
    readings: tuple[tuple[str, Callable[[Measurement, Result], object]], ...] = (
        ("device", lambda m, r: f"{m.device.manufacturer or ''} {m.device.model}".strip()),
        ("device's serial", lambda m, r: m.device.identity),
        ("SoC", lambda m, r: m.device.soc),
        ("processor", lambda m, r: f"{m.device.cpu.model}, {m.device.cpu.cores} cores"),
        ("processor flags", lambda m, r: " ".join(sorted(m.device.cpu.flags))),
        ("system", lambda m, r: m.device.system),
        ("checkpoint", lambda m, r: r.bundle.checkpoint),
        ("checkpoint's content", lambda m, r: r.bundle.fingerprint[:12]),
        ("plan", lambda m, r: r.bundle.plan),
        ("target", lambda m, r: r.bundle.target),
        ("delegate", lambda m, r: r.bundle.delegate),
        ("ran on", lambda m, r: r.processor),
        ("cache length", lambda m, r: r.bundle.cache_length),
        ("runtime", lambda m, r: r.runtime_version),
        ("runner", lambda m, r: r.runner and r.runner.kind),
        ("threads", lambda m, r: r.threads),
        ("chat template", lambda m, r: "used" if r.chat else "not used"),
        ("drafts", lambda m, r: r.draft or "none"),
        ("governor", lambda m, r: ", ".join(sorted(r.before.governors))),
        ("charging", lambda m, r: {None: None, True: "yes", False: "no"}[r.before.charging]),
        ("thermal status before", lambda m, r: r.before.thermal_status),
        ("page cache of cold runs", lambda m, r: ", ".join(sorted({run.page_cache for run in r.runs if run.state == "cold"}))),
        ("measured by", lambda m, r: m.writer.name),
    )
    # what one side could not read is not known to differ
    return _listed_changes((what, read(*sides[0]), read(*sides[1])) for what, read in readings) + _surroundings(one, other)


def _surroundings(one: Result, other: Result) -> list[str]:
    """Other work, heat and free memory, where the two sides' differ by more than what moves times."""
    readings: tuple[tuple[str, Callable[[Result], float | None], float, str], ...] = (
        ("other work beside the runs", lambda r: _middle(run.other_load for run in r.runs), OTHER_LOAD, "{:.1f} cores"),
        ("temperature of the runs", lambda r: _middle(run.temperature for run in r.runs), WARMER, "{:.0f} °C"),
        ("free memory before", lambda r: (r.before.available_memory_bytes or 0) / (1 << 30) or None, FREE_MEMORY, "{:.1f} GiB"),
    )
    found = []
    for what, read, apart, form in readings:
        a, b = read(one), read(other)
        if a is not None and b is not None and abs(a - b) > apart:
            found.append(f"{what}: {form.format(a)} against {form.format(b)}")
    return found


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _changes(one: Result, other: Result) -> list[str]:
    def proof(result: Result) -> str:
        figures = result.proof
        return (
            "none"
            if figures is None
            else f"mean KLD {figures.mean_kld:.2e}, same top {figures.same_top:.2%}{'' if figures.passed else ', failed'}"
        )

    return _listed_changes(
        [
            ("artifact", one.ran_sha256[:12], other.ran_sha256[:12]),
            ("size", f"{one.ran_bytes} bytes", f"{other.ran_bytes} bytes"),
            ("proof", proof(one), proof(other)),
        ]
    )


def _listed_changes(readings: Iterable[tuple[str, object, object]]) -> list[str]:
    return [
        f"{what}: {first} against {second}"
        for what, first, second in readings
        if first != second and first not in (None, "") and second not in (None, "")
    ]
