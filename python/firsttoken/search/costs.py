"""All costs of a model on a target: damages as measured, bytes by the format, times of single layers, and what an exported artifact has besides.

The artifact is the INT8 one: its size and times, less what its layers should take, are what every plan of this model has.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from firsttoken.bundle.manifest import read_manifest
from firsttoken.decoder.walk import plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.measure.bench import Bench, BenchSettings
from firsttoken.measure.measurement import Result
from firsttoken.pipeline import export
from firsttoken.progress import Report, silent
from firsttoken.quant.plan import Gate
from firsttoken.search.candidates import Candidate, integer_choice
from firsttoken.search.choice import Cost, Costs
from firsttoken.search.damage import UNASKED
from firsttoken.search.plan_file import plan_text
from firsttoken.search.sensitivity import Measured, Subject
from firsttoken.search.sizes import layer_bytes
from firsttoken.search.smooth import smooths
from firsttoken.search.times import Clock, Shape

REPEAT, DECODED = 9, 24  # runs of a bundle, tokens decoded in each


@dataclass(frozen=True)
class Real:
    """What an exported artifact has: bytes, and medians in nanoseconds of a prompt up to its first token and of a token after it; 0 where not measured."""

    bytes: int
    first_token: float = 0.0
    decode: float = 0.0
    unrest: float = 0.0
    """By what part half of the rounds' ratios to the bundle beside it are off their median, at least."""


def table_of(subject: Subject, damages: Measured, clock: Clock | None) -> dict[str, dict[Candidate, Cost]]:
    """Every layer's cost as each candidate. The head sees one position of a prompt, a table is looked up, a core's time is
    not known and counts among what is fixed."""
    found: dict[str, dict[Candidate, Cost]] = {}
    for layer in plan_layers(subject.decoder):
        own: dict[Candidate, Cost] = {}
        for one, damage in damages[layer.name].items():
            prefill = decode = 0.0
            if clock is not None and layer.kind == "linear":
                time = clock.time(Shape.of(layer, one))
                prefill, decode = time.decode if layer.name == "head" else time.prefill * clock.calls, time.decode
            own[one] = Cost(damage, layer_bytes(layer, one, subject.backend), prefill, decode)
        found[layer.name] = own
    return found


def gather(
    subject: Subject, damages: Measured, clock: Clock | None, folder: Path, report: Report = silent
) -> tuple[Costs, Real, dict[str, Candidate]]:
    """Returns the costs, what the INT8 artifact really has, and its choice; its times are real where ``clock`` is this machine's, else its layers' sum.

    Writes the artifact to ``folder``, which it leaves there. Raises `FirstTokenError`.
    """
    table = table_of(subject, damages, clock)
    shared = ("embedding", "head") if subject.backend.shares_tied and subject.decoder.tied_head else None
    bare = Costs(table, Cost(0, 0), shared)
    base = integer_choice(damages)
    bundle = export_choice(subject, base, bare, folder, False, report)
    real, sums = real_costs(bundle, clock.prompt if clock and clock.here else None, None, report)[0], bare.total(base)
    if clock is not None and not clock.here:
        real = replace(real, first_token=sums.prefill, decode=sums.decode)
    # A call of a single layer has a beginning and an end of its own, which in a small model's file is most of the time.
    table = scaled(table, min(1.0, real.first_token / sums.prefill), min(1.0, real.decode / sums.decode)) if clock else table
    sums = Costs(table, Cost(0, 0), shared).total(base)
    return Costs(table, Cost(0, real.bytes - sums.bytes, real.first_token - sums.prefill, real.decode - sums.decode), shared), real, base


def scaled(table: Mapping[str, Mapping[Candidate, Cost]], prefill: float, decode: float) -> dict[str, dict[Candidate, Cost]]:
    """The costs with all times multiplied."""
    return {
        name: {one: replace(cost, prefill=prefill * cost.prefill, decode=decode * cost.decode) for one, cost in own.items()}
        for name, own in table.items()
    }


def export_choice(
    subject: Subject, choice: Mapping[str, Candidate], costs: Costs, folder: Path, prove: bool, report: Report, gate: Gate = UNASKED
) -> Path:
    """Writes the bundle of a choice under ``folder``; returns it. Raises `FirstTokenError`, and `GateError` where it misses its proof."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = folder / "searched.toml"
    plan.write_text(plan_text(choice, costs, "found by a search", gate, [], smooths(subject, choice)))
    calibrated = smooths(subject, choice) or any(one.method != "round" for one in choice.values())
    [bundle] = export(
        subject.given,
        folder,
        plan,
        (subject.target_given,),
        prove,
        True,
        subject.held_out,
        report=report,
        witness=False,
        adapter=subject.adapter,
        calibration=subject.calibration if calibrated else None,
    )
    return bundle


def real_costs(bundle: Path, prompt: int | None, beside: Path | None, report: Report) -> list[Real]:
    """What ``bundle`` has, and the bundle ``beside`` it, run in turns; times only with a ``prompt`` of so many tokens. Raises `FirstTokenError`."""
    bundles = [bundle, *([] if beside is None else [beside])]
    sizes = [(manifest := read_manifest(folder)).size(manifest.cpu) for folder in bundles]
    if prompt is None:
        return [Real(size) for size in sizes]
    measured = Bench(bundles, BenchSettings((prompt,), REPEAT, decode_tokens=DECODED, processes=1), report).run()
    times = [warm_times(result) for result in measured.results]
    middles = [middle(rounds) for rounds in times] if beside is None or len(times[0]) != len(times[1]) else side_by_side(*times)
    found = [Real(size, *one) for size, one in zip(sizes, middles, strict=True)]
    return found if len(times) == 1 or len(times[0]) != len(times[1]) else [replace(one, unrest=unrest(*times)) for one in found]


Round = tuple[float, float]  # nanoseconds up to the first token, and of a token after it


def middle(rounds: list[Round]) -> Round:
    """The medians of all rounds."""
    first_token, decode = zip(*rounds, strict=True)
    return statistics.median(first_token), statistics.median(decode)


def side_by_side(one: list[Round], other: list[Round]) -> tuple[Round, Round]:
    """Times of two that took turns: the other's medians, and those times the medians of the rounds' ratios, so that what slows the machine for a round slows both."""
    ratios = middle([(a[0] / b[0], a[1] / b[1]) for a, b in zip(one, other, strict=True)])
    base = middle(other)
    return (ratios[0] * base[0], ratios[1] * base[1]), base


def unrest(one: list[Round], other: list[Round]) -> float:
    """The median deviation of the rounds' ratios from their median, as a part; the larger of first token and decode."""
    ratios = zip(*((a[0] / b[0], a[1] / b[1]) for a, b in zip(one, other, strict=True)), strict=True)
    return max(statistics.median(abs(ratio / statistics.median(own) - 1) for ratio in own) for own in ratios)


def warm_times(result: Result) -> list[Round]:
    """Every round of a bundle's warm runs, nanoseconds: up to the first token, and of a token after it. Raises `FirstTokenError` where none ended."""
    runs = [run for run in result.runs if run.state == "warm" and run.decode is not None]
    if not runs:
        why = result.failures[0].message if result.failures else "no run ended"
        raise FirstTokenError(f"{result.bundle.name}: cannot be timed on this machine: {why}")
    return [(run.stages.first_token, run.decode.nanoseconds / run.decode.tokens) for run in runs if run.decode]
