"""Running windows of text through an artifact, and how far its logits are from what was expected."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from firsttoken.backends.runner import Runner
from firsttoken.progress import Report, silent
from firsttoken.prove.divergence import Divergence, collect, diverge_at
from firsttoken.prove.expected import Expected
from firsttoken.prove.twin import Fit, fit
from firsttoken.prove.windows import Kind, Window


@dataclass(frozen=True)
class Compared:
    """What an artifact computed at every compared position, beside what was expected.

    ``fits`` are of the positions at which the twin was run, by its rows. ``logits`` are float32 ``[positions, tokenizer's vocabulary]``, where they
    were to be kept; ``from_host`` is the divergence from the host's, where those were given.
    """

    expected: Expected
    divergence: Divergence
    kinds: np.ndarray
    places: list[str]
    positions: np.ndarray
    fits: list[Fit]
    logits: np.ndarray | None = None
    from_host: Divergence | None = None


def compare(
    runner: Runner,
    windows: list[Window],
    expected: Expected,
    report: Report = silent,
    stage: str = "proof",
    keep: bool = False,
    host: np.ndarray | None = None,
) -> Compared:
    """Runs every step of every window; decoding is fed the text's own tokens, whatever the artifact predicts."""
    size = expected.reference.shape[1]
    kept = np.empty_like(expected.reference) if keep else None
    rows, others, kinds, places = [], [], [], []
    fits: list[Fit] = []
    for n, (logits, next_token, kind, place) in enumerate(run_steps(runner, windows, report, stage)):
        logits = logits[:size]
        rows.append(diverge_at(logits, expected.reference[n], next_token))
        if expected.twin is not None and expected.twin.row[n] >= 0:
            fits.append(fit(logits, expected.twin.logits[expected.twin.row[n]]))
        if kept is not None:
            kept[n] = logits
        if host is not None:
            others.append(diverge_at(logits, host[n], next_token))
        kinds.append(kind)
        places.append(place)
    return Compared(
        expected,
        collect(rows),
        np.array(kinds),
        places,
        np.concatenate([window.positions for window in windows]),
        fits,
        kept,
        collect(others) if others else None,
    )


def run_steps(runner: Runner, windows: list[Window], report: Report, stage: str = "proof") -> Iterator[tuple[np.ndarray, int, Kind, str]]:
    """Runs every step of every window; yields its logits (the runner's own array), the text's next token, its kind and its place in words."""
    total, done = sum(len(window.positions) for window in windows), 0
    for number, window in enumerate(windows):
        for kind, start, stop, restart in window.steps():
            if restart:
                runner.reset()
            logits = runner.decode(int(window.tokens[start])) if kind == "decode" else runner.prefill(window.tokens[start:stop])
            done += 1
            report(stage, done, total, "positions")
            yield logits, int(window.tokens[stop]), kind, f"{window.name or f'window {number}'}, {kind} at position {stop - 1}"
