"""Whose times count: this machine's, layer by layer, or those of bundles on a phone or an emulated core."""

from collections.abc import Sequence
from pathlib import Path

from firsttoken.arm.cores import DEFAULT_CORE
from firsttoken.backends.runner import default_threads
from firsttoken.decoder.walk import plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.search.budget import Budget
from firsttoken.search.candidates import Candidate, integer_choice
from firsttoken.search.choice import Cost, Costs
from firsttoken.search.costs import DECODED, export_choice
from firsttoken.search.fitted import check_arm, from_arm, from_files
from firsttoken.search.sensitivity import Measured, Subject
from firsttoken.search.times import Clock, layer_times

ARM = "arm"  # in the place of a file of times: instructions counted on an emulated core


def check_times(subject: Subject, budget: Budget, prompt: int, times: Sequence[str | Path]) -> None:
    """Raises `FirstTokenError` for times that cannot be had, before anything is measured."""
    if not times:
        longest = subject.target.cache_length - DECODED
        if budget.timed and prompt > longest:
            raise FirstTokenError(
                f"--prompt {prompt}: bundles are timed with {DECODED} tokens after it, and target {subject.target.name!r} has a cache of "
                f"{subject.target.cache_length}; expected {longest} at most, or a target with a longer cache_length"
            )
        return
    if not budget.timed:
        raise FirstTokenError("--times says how long layers take, but no time is bounded; give --max-first-token or --max-decode too")
    if ARM not in map(str, times):
        from_files(subject, [Path(path) for path in times], prompt)
        return
    if len(times) > 1:
        raise FirstTokenError("--times arm stands alone; give it, or files of measurements")
    check_arm(subject)


def clock_of(
    subject: Subject, damages: Measured, budget: Budget, prompt: int, times: Sequence[str | Path], folder: Path, report: Report
) -> Clock | None:
    """Whose times count; None where the budget has none. Raises `FirstTokenError`."""
    check_times(subject, budget, prompt, times)
    if not times:
        return clock_here(subject, damages, prompt, report) if budget.timed else None

    def export(one: Candidate) -> Path:
        choice = {
            name: one if one in own else chosen
            for (name, own), chosen in zip(damages.items(), integer_choice(damages).values(), strict=True)
        }
        bare = Costs({name: {candidate: Cost(0, 0) for candidate in own} for name, own in damages.items()}, Cost(0, 0))
        return export_choice(subject, choice, bare, folder / f"counted {len(list(folder.iterdir()))}", False, report)

    if ARM in map(str, times):
        fitted = from_arm(subject, damages, DEFAULT_CORE, export, report)
    else:
        fitted = from_files(subject, [Path(path) for path in times], prompt)
    return Clock(fitted.time, 1.0, fitted.prompt, False)


def clock_here(subject: Subject, damages: Measured, prompt: int, report: Report = silent) -> Clock:
    """Measures every shape on this machine. Raises `FirstTokenError`."""
    chunk = min(subject.target.prefill_chunk, prompt)
    layers = plan_layers(subject.decoder)
    times = layer_times(subject.source, layers, damages, subject.backend, chunk, default_threads(), report)
    return Clock(times.__getitem__, prompt / chunk, prompt, True)
