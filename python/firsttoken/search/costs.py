"""All costs of a model on a target: damages as measured, bytes by the format, times of single layers, and what an exported artifact has besides.

The artifact is the INT8 one: its size and times, less what its layers should take, are what every plan of this model has.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from firsttoken.backends.runner import default_threads
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
from firsttoken.search.times import Shape, Time, layer_times

REPEAT, DECODED = 7, 24  # runs of a bundle, tokens decoded in each


@dataclass(frozen=True)
class Real:
    """What an exported artifact has: bytes, and medians in nanoseconds of a prompt up to its first token and of a token after it; 0 where not measured."""

    bytes: int
    first_token: float = 0.0
    decode: float = 0.0


def table_of(subject: Subject, damages: Measured, times: Mapping[Shape, Time], calls: float) -> dict[str, dict[Candidate, Cost]]:
    """Every layer's cost as each candidate; a prompt takes ``calls`` calls. The head sees one position, a table is looked up, a core's time is
    not known and counts among what is fixed."""
    found: dict[str, dict[Candidate, Cost]] = {}
    for layer in plan_layers(subject.decoder):
        own: dict[Candidate, Cost] = {}
        for one, damage in damages[layer.name].items():
            time = times.get(Shape.of(layer, one)) if layer.kind == "linear" else None
            prefill, decode = (0.0, 0.0) if time is None else (time.decode if layer.name == "head" else time.prefill * calls, time.decode)
            own[one] = Cost(damage, layer_bytes(layer, one, subject.backend), prefill, decode)
        found[layer.name] = own
    return found


def gather(
    subject: Subject, damages: Measured, prompt: int | None, folder: Path, report: Report = silent
) -> tuple[Costs, Real, dict[str, Candidate]]:
    """Returns the costs, what the INT8 artifact really has, and its choice; times only with a ``prompt`` of so many tokens.

    Writes the artifact to ``folder``, which it leaves there. Raises `FirstTokenError`.
    """
    layers, backend = plan_layers(subject.decoder), subject.backend
    chunk = min(subject.target.prefill_chunk, prompt or 1)
    times = {} if prompt is None else layer_times(subject.source, layers, damages, backend, chunk, default_threads(), report)
    table = table_of(subject, damages, times, (prompt or 0) / chunk)
    shared = ("embedding", "head") if backend.shares_tied and subject.decoder.tied_head else None
    bare = Costs(table, Cost(0, 0), shared)
    base = integer_choice(damages)
    bundle = export_choice(subject, base, bare, folder, False, report)
    real = real_costs(bundle, prompt, None, report)[0]
    sums = bare.total(base)
    return Costs(table, Cost(0, real.bytes - sums.bytes, real.first_token - sums.prefill, real.decode - sums.decode), shared), real, base


def export_choice(
    subject: Subject, choice: Mapping[str, Candidate], costs: Costs, folder: Path, prove: bool, report: Report, gate: Gate = UNASKED
) -> Path:
    """Writes the bundle of a choice under ``folder``; returns it. Raises `FirstTokenError`, and `GateError` where it misses its proof."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = folder / "searched.toml"
    plan.write_text(plan_text(choice, costs, "found by a search", gate, [], subject.smoothing is not None))
    calibrated = subject.smoothing is not None or any(one.method != "round" for one in choice.values())
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
    sizes = [(manifest := read_manifest(folder)).facts(manifest.cpu).bytes for folder in bundles]
    if prompt is None:
        return [Real(size) for size in sizes]
    measured = Bench(bundles, BenchSettings((prompt,), REPEAT, decode_tokens=DECODED), report).run()
    return [Real(size, *middle_times(result)) for size, result in zip(sizes, measured.results, strict=True)]


def middle_times(result: Result) -> tuple[float, float]:
    """Medians of a bundle's warm runs, nanoseconds: up to the first token, and of a token after it. Raises `FirstTokenError` where none ended."""
    runs = [run for run in result.runs if run.state == "warm" and run.decode is not None]
    if not runs:
        why = result.failures[0].message if result.failures else "no run ended"
        raise FirstTokenError(f"{result.bundle.name}: cannot be timed on this machine: {why}")
    return (
        statistics.median(run.stages.first_token for run in runs),
        statistics.median(run.decode.nanoseconds / run.decode.tokens for run in runs if run.decode),
    )
