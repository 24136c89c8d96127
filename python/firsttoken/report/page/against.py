"""One bundle against another: how many times as fast, with the interval that says whether it is noise."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from firsttoken.measure.compare import Comparison, compare_results, corrected_together, times
from firsttoken.measure.pairing import Matched, match
from firsttoken.report.page.scale import Axis, ratio_axis, three_digits, time_text
from firsttoken.report.page.sources import Source
from firsttoken.report.page.subjects import DeviceGroup, ShownProof, Subject, plan_and_target, proof_of


@dataclass(frozen=True)
class Whisker:
    """A comparison as a point and its interval, percent; ``verdict`` is "faster", "slower" or "cannot-tell"."""

    name: str
    at: float
    low: float | None
    high: float | None
    verdict: str
    value: str
    words: str
    medians: str
    runs: str
    reason: str


@dataclass(frozen=True)
class Duel:
    """B against A, both with their proof. ``notes`` say what is not alike."""

    a: str
    b: str
    proof_a: ShownProof
    proof_b: ShownProof
    whiskers: list[Whisker]
    notes: list[str]


@dataclass(frozen=True)
class Arena:
    """Duels over one axis."""

    axis: Axis
    duels: list[Duel]

    @property
    def comparisons(self) -> int:
        return sum(whisker.low is not None for duel in self.duels for whisker in duel.whiskers)


def plan_against_plan(device: DeviceGroup) -> Arena | None:
    """Every other plan of the same checkpoint and target against the first one."""
    return _within(
        device,
        lambda s: (
            s.result.bundle.fingerprint,
            s.result.bundle.target,
            s.result.processor,
            s.result.threads,
            s.result.chat,
            s.result.draft,
        ),
        lambda s: s.result.bundle.plan,
    )


def runtime_against_runtime(device: DeviceGroup) -> Arena | None:
    """Every other target, runtime version or artifact that ran of the same checkpoint and plan against the first one."""
    return _within(
        device,
        lambda s: (s.result.bundle.fingerprint, s.result.bundle.plan, s.result.threads, s.result.chat, s.result.draft),
        lambda s: (s.result.bundle.target, s.result.runtime_version, s.result.processor),
    )


def against_baseline(sources: list[Source], baseline: Source) -> tuple[Arena | None, list[str]]:
    """Every result against the baseline's of the same bundle, and a note for each that has no counterpart."""
    pairs, notes = [], []
    for source in sources:
        matched: Matched = match(baseline.measurement, source.measurement)
        for pair in matched.pairs:
            name = f"{plan_and_target(pair.b)} ({source.name})"
            same = plan_and_target(pair.a) == plan_and_target(pair.b)
            was = f"the same in {baseline.name}" if same else f"{plan_and_target(pair.a)} ({baseline.name})"
            alone = compare_results(
                pair.a, pair.b
            )  # `_arena` corrects what the page shows; `match` has corrected already, and twice hides differences
            if alone:
                unlike = [f"Not like for like: {'; '.join(pair.differences)}."] if pair.differences else []
                pairs.append(
                    (
                        was,
                        name,
                        proof_of(pair.a),
                        proof_of(pair.b),
                        alone,
                        unlike + ([f"Changed: {'; '.join(pair.changes)}."] if pair.changes else []),
                    )
                )
            else:
                notes.append(f"{name}: no prompt length and state in common with the baseline")
        notes += [f"{plan_and_target(r)} ({source.name}): not in the baseline" for r in matched.only_b]
        notes += [f"{plan_and_target(r)}: in the baseline, not in {source.name}" for r in matched.only_a]
    return _arena(pairs), notes


def _within(device: DeviceGroup, same: Callable[[Subject], Hashable], other: Callable[[Subject], Hashable]) -> Arena | None:
    families: dict[Hashable, list[Subject]] = {}
    for subject in device.subjects:
        families.setdefault(same(subject), []).append(subject)
    pairs = []
    for members in families.values():
        first, seen = members[0], {other(members[0])}
        for member in members[1:]:
            if other(member) in seen:
                continue
            seen.add(other(member))
            comparisons = compare_results(first.result, member.result)
            notes = (
                []
                if first.source is member.source
                else ["Measured in different files, so not taking turns: what changed in between counts as a difference."]
            )
            if comparisons:
                pairs.append((first.title, member.title, first.proof, member.proof, comparisons, notes))
    return _arena(pairs)


def _arena(pairs: list[tuple[str, str, ShownProof, ShownProof, list[Comparison], list[str]]]) -> Arena | None:
    if not pairs:
        return None
    values = [v for *_, comparisons, _ in pairs for c in _main(comparisons) for v in (c.ratio.value, *(c.ratio.interval or ()))]
    axis = ratio_axis(values)
    shown = corrected_together([_main(comparisons) for *_, comparisons, _ in pairs])
    return Arena(
        axis,
        [
            Duel(a, b, proof_a, proof_b, [_whisker(c, axis) for c in comparisons], notes)
            for (a, b, proof_a, proof_b, _, notes), comparisons in zip(pairs, shown, strict=True)
        ],
    )


def _whisker(comparison: Comparison, axis: Axis) -> Whisker:
    ratio = comparison.ratio
    low, high = map(axis.at, ratio.interval) if ratio.interval else (None, None)
    what = "TTFT" if comparison.figure == "first token" else "decode"
    text = time_text if comparison.figure == "first token" else lambda value: f"{three_digits(value)} tokens/s"
    return Whisker(
        name=f"{what}, {comparison.prompt_tokens} {comparison.state}",
        at=axis.at(ratio.value),
        low=low,
        high=high,
        verdict=ratio.verdict.replace(" ", "-"),
        value=f"{times(ratio.value)}×" if ratio.verdict == "cannot tell" else f"{times(ratio.value)}×, {ratio.verdict}",
        words=_words(comparison),
        medians=f"{text(comparison.median_a)} → {text(comparison.median_b)}",
        runs=f"{comparison.count_a} and {comparison.count_b} runs of {comparison.processes_a} and {comparison.processes_b} processes",
        reason=comparison.reason,
    )


def _words(comparison: Comparison) -> str:
    ratio = comparison.ratio
    if ratio.interval is None:
        return "cannot tell, too few processes"
    return f"cannot tell, {ratio.span}" if ratio.verdict == "cannot tell" else ratio.span


def _main(comparisons: list[Comparison]) -> list[Comparison]:
    """Leaves out decoding after a cold start where there is decoding in a warm process: it is the same work."""
    warm = {c.prompt_tokens for c in comparisons if c.figure == "decode" and c.state == "warm"}
    return [c for c in comparisons if not (c.figure == "decode" and c.state == "cold" and c.prompt_tokens in warm)]
