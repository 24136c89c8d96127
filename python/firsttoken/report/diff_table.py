"""Whether B is faster than A, for the terminal: a table for each bundle, with both proofs and what is not alike."""

from dataclasses import asdict

from rich.console import Console

from firsttoken.measure.compare import CONFIDENCE, FEWEST_PROCESSES, Comparison, times
from firsttoken.measure.measurement import Result
from firsttoken.measure.pairing import Matched, Pair, describe
from firsttoken.report.page.scale import three_digits, time_text
from firsttoken.report.page.subjects import proof_of
from firsttoken.report.tables import table
from firsttoken.safe_text import harmless, visible

COLUMNS = ("", "prompt", "state", "A median", "B median", "B is", f"{CONFIDENCE:.0%} interval", "runs (processes)", "visible", "verdict")


def print_diff(out: Console, matched: Matched, name_a: str, name_b: str) -> None:
    """Prints every pair of ``matched`` and what was found in one file only."""
    out.print(f"A: {visible(name_a)}\nB: {visible(name_b)}", soft_wrap=True)
    for pair in matched.pairs:
        _print_pair(out, pair)
    for name, left in (("A", matched.only_a), ("B", matched.only_b)):
        for result in left:
            out.print(f"only in {name}: {visible(describe(result))}", soft_wrap=True)
    out.print()
    for note in notes(matched):
        out.print(harmless(note), soft_wrap=True)


def diff_document(matched: Matched, name_a: str, name_b: str) -> dict:
    """What `print_diff` prints, for programs: medians in nanoseconds (first token) or tokens per second (decode)."""

    def side(result: Result) -> dict:
        found = {
            "bundle": result.bundle,
            "artifact": result.artifact,
            "threads": result.threads,
            "chat": result.chat,
            "draft": result.draft,
            "proof": result.proof,
        }
        return {name: value for name, value in found.items() if value is not None}

    pairs = [
        {
            "a": side(pair.a),
            "b": side(pair.b),
            "differences": pair.differences,
            "changes": pair.changes,
            "comparisons": [{**asdict(each), "verdict": each.ratio.verdict} for each in pair.comparisons],
        }
        for pair in matched.pairs
    ]
    left = {"only_a": list(map(side, matched.only_a)), "only_b": list(map(side, matched.only_b))}
    return {"a": name_a, "b": name_b, "confidence": CONFIDENCE, "pairs": pairs, **left, "notes": notes(matched)}


def notes(matched: Matched) -> list[str]:
    """Returns what a reader must know of the verdicts: chance, and what the intervals cannot see."""
    made = [comparison for pair in matched.pairs for comparison in pair.comparisons]
    tested = sum(comparison.ratio.interval is not None for comparison in made)
    said = []
    if tested:
        said.append(
            f"The verdicts hold together: of {tested} {'comparison' if tested == 1 else 'comparisons'} of equal bundles any would be called different in at most {1 - CONFIDENCE:.0%} "
            "of the cases. A difference as large as the column 'visible' is found in 80 % of the cases, smaller ones less often."
        )
    if any(comparison.ratio.interval is None for comparison in made):
        said.append(
            f"Where there is no interval, {min(min(c.processes_a, c.processes_b) for c in made)} of the processes ran on a side, and {FEWEST_PROCESSES} are needed: runs of one process share what it got. "
            "Measure with `firsttoken bench --processes 5`; of a phone each run of `device profile --cold` is a process."
        )
    if any(pair.differences for pair in matched.pairs):
        said.append(
            "NOT LIKE FOR LIKE: see above what differs besides the bundle; the verdicts hold for the two setups, not for the bundles alone."
        )
    said.append(
        "The intervals know the noise from process to process only. A and B ran at different times; to rule out heat and other work, measure both in one `firsttoken bench`."
    )
    return said


def _print_pair(out: Console, pair: Pair) -> None:
    out.print()
    first, second = describe(pair.a), describe(pair.b)
    out.print(visible(first) if first == second else f"A {visible(first)}; B {visible(second)}", style="bold", soft_wrap=True)
    out.print(f"  proof of A: {_proof(pair.a)}; of B: {_proof(pair.b)}", soft_wrap=True)
    if pair.differences:
        out.print(f"  not like for like: {visible('; '.join(pair.differences), 1000)}", soft_wrap=True)
    if pair.changes:
        out.print(f"  changed: {visible('; '.join(pair.changes), 1000)}", soft_wrap=True)
    if pair.comparisons:
        out.print(table(None, COLUMNS, [_row(comparison) for comparison in pair.comparisons], left=1))
    else:
        out.print("  no prompt length and state in common")


def _row(comparison: Comparison) -> tuple[str, ...]:
    ratio = comparison.ratio
    first = comparison.figure == "first token"

    def text(value: float) -> str:
        return time_text(value) if first else f"{three_digits(value)} tokens/s"

    return (
        "TTFT" if first else "decode",
        str(comparison.prompt_tokens),
        comparison.state,
        text(comparison.median_a),
        text(comparison.median_b),
        f"{times(ratio.value)}×",
        f"{ratio.span}×" if ratio.interval else "too few processes",
        f"{comparison.count_a} ({comparison.processes_a}), {comparison.count_b} ({comparison.processes_b})",
        "" if ratio.visible is None else f"{ratio.visible - 1:.1%}",
        ratio.verdict,
    )


def _proof(result: Result) -> str:
    return proof_of(result).short
