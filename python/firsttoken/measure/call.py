"""`firsttoken.bench`: the verb as a function."""

from collections.abc import Sequence
from pathlib import Path

from firsttoken.measure.measurement import Measurement
from firsttoken.progress import Report, silent
from firsttoken.run.drafting import Draft

PathLike = str | Path


def bench(
    bundles: PathLike | Sequence[PathLike],
    *,
    prompts: Sequence[int] = (32, 128, 512),
    repeat: int = 3,
    processes: int = 5,
    until: float | None = None,
    threads: int | None = None,
    cold: bool = False,
    decode_tokens: int = 32,
    raw: bool = False,
    output: PathLike | None = None,
    budget: PathLike | None = None,
    baseline: PathLike | None = None,
    junit: PathLike | None = None,
    retries: int = 1,
    checkpoint: PathLike | None = None,
    cache_length: int | None = None,
    turns: int = 1,
    draft: Draft | None = None,
    progress: Report = silent,
) -> Measurement:
    """Measures time to first token and decoding speed of bundles on this machine; returns every single run.

    ``prompts`` are lengths in tokens, ``repeat`` the runs of each in each of ``processes`` of a bundle, to which more come ``until`` each time to first token is known to that share of it (0.03: 3 %); ``decode_tokens`` are those decoded after the
    first, ``turns`` how often a conversation asks each, every turn a run of its own; ``draft`` is `generate`'s; ``cold`` adds starts of fresh processes, ``raw`` leaves the chat template out. Times are nanoseconds; medians come from `measure.summary`. Among the bundles may be .tflite, .litertlm and .pte files that other exporters wrote, with the ``checkpoint`` of their
    words and, where they do not say it, their ``cache_length`` (tokens). ``output`` is a ``*.measurement.json`` to write. A run that failed is listed in its
    result's ``failures``.

    Raises `FirstTokenError` for bad input, and `GateError` where a limit of ``budget`` (a ``.toml`` file) is missed, relative ones against the measurement file ``baseline`` (``junit`` is an XML file to write of the verdicts); where that
    was beside other work, the bench is done again, ``retries`` times at most.

        measured = firsttoken.bench(["out/tflite-xnnpack"], prompts=[32, 128], output="host.measurement.json")
        print([run.stages.first_token / 1e6 for run in measured.results[0].runs])
    """
    from firsttoken.atomic_file import check_file_destination
    from firsttoken.errors import GateError
    from firsttoken.measure.bench import BenchSettings
    from firsttoken.measure.budget import load_budget
    from firsttoken.measure.budget_verdict import write_junit
    from firsttoken.measure.held import measure_held

    if output is not None:
        check_file_destination(output, "output")
    limits = load_budget(Path(budget)) if budget is not None else None
    folder = None if checkpoint is None else Path(checkpoint)
    settings = BenchSettings(
        tuple(prompts), repeat, threads, cold, decode_tokens, False if raw else None, folder, cache_length, turns, draft, processes, until
    )
    paths = [bundles] if isinstance(bundles, str | Path) else bundles
    held = measure_held(paths, settings, limits, None if baseline is None else Path(baseline), retries, progress)
    if output is not None:
        held.measurement.write(Path(output))
    if junit is not None:
        write_junit(Path(junit), held.verdicts)
    missed = [verdict.line for verdict in held.verdicts if not verdict.kept]
    if missed:
        raise GateError(f"{len(missed)} limits of {budget} missed: {'; '.join(missed)}")
    return held.measurement
