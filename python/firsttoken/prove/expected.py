"""What an artifact is held against: logits of the checkpoint, and of the plan computed on the host, the twin."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from firsttoken.backends.interface import Backend
from firsttoken.bundle.integer_facts import CalibrationFacts
from firsttoken.bundle.lineage import proof_reference
from firsttoken.bundle.manifest import TokenizerFacts
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.progress import Report, silent
from firsttoken.prove.arithmetic import Fp32
from firsttoken.prove.divergence import diverge_at
from firsttoken.prove.gain import Gain, apart, fewer
from firsttoken.prove.reference import logits_in
from firsttoken.prove.twin import Twin, planned, twin_windows
from firsttoken.prove.windows import Window
from firsttoken.quant.plan import Plan


@dataclass(frozen=True)
class Expected:
    """The reference's logits at every compared position, float32 ``[positions, vocab]``, and the twin's where it was run.

    ``overflow`` is the first layer in which the plan's FP16 ran over; then there is no twin. ``gain``: what the plan could gain by outliers apart, where that was asked.
    """

    reference: np.ndarray
    twin: Twin | None = None
    overflow: str | None = None
    gain: Gain | None = None


class Planned(Protocol):
    """What says the plan, what it was calibrated on, and the vocabulary: a bundle's manifest, or a file and the plan that it is held to."""

    @property
    def plan(self) -> Plan: ...
    @property
    def calibration(self) -> CalibrationFacts | None: ...
    @property
    def tokenizer(self) -> TokenizerFacts: ...


def expectations(
    checkpoint: Checkpoint,
    decoder: Decoder,
    manifest: Planned,
    windows: list[Window],
    precisions: Mapping[str, str] | None,
    backend: Backend,
    report: Report = silent,
    gain: bool = False,
) -> Expected:
    """Computes the reference over all windows and the twin over some, all in one pass over the checkpoint; with ``gain``, over a few of these the plan with outliers apart too.

    The reference is the checkpoint's, or its float student's where it was trained for quantization (`bundle.lineage`): then the twin,
    whose weights are the checkpoint's own, is computed apart. Without ``precisions`` there is no twin. Logits are over the tokenizer's vocabulary.
    """
    run, positions = [window.tokens[:-1] for window in windows], [window.positions for window in windows]
    plain = (Fp32(), list(range(len(windows))))
    original, size = proof_reference(checkpoint), manifest.tokenizer.vocab_size
    if precisions is None:
        [reference] = logits_in(original, decoder, [plain], run, positions, size, report)
        return Expected(np.concatenate(reference))
    chosen = twin_windows(windows)
    exact, noisy = (planned(decoder, manifest.plan, precisions, backend, noise, manifest.calibration) for noise in (False, True))
    planned_runs: list[tuple[Fp32, list[int]]] = [(exact, chosen), (noisy, chosen)]
    other = apart(decoder, manifest.plan, precisions, backend, manifest.calibration) if gain else None
    planned_runs += [] if other is None else [(other, fewer(windows, chosen))]
    if original is checkpoint:
        reference, ours, off, *beside = logits_in(checkpoint, decoder, [plain, *planned_runs], run, positions, size, report)
    else:
        [reference] = logits_in(original, decoder, [plain], run, positions, size, report)
        ours, off, *beside = logits_in(checkpoint, decoder, planned_runs, run, positions, size, report)
    firsts = np.cumsum([0, *(len(window.positions) for window in windows)])
    places = np.concatenate([np.arange(firsts[n], firsts[n + 1]) for n in chosen])
    row = np.full(firsts[-1], -1)
    row[places] = np.arange(len(places))
    wanted, logits = np.concatenate(reference), np.concatenate(ours)
    if exact.overflow:
        return Expected(wanted, overflow=exact.overflow[0])
    noise = np.array([diverge_at(a, b, 0)[0] for a, b in zip(np.concatenate(off), logits, strict=True)])
    damage = np.array([diverge_at(a, wanted[place], 0)[0] for a, place in zip(logits, places, strict=True)])
    found = [gain_of(fewer(windows, chosen), firsts, one, wanted, row, damage) for one in beside]
    return Expected(wanted, Twin(logits, row, noise, damage), gain=found[0] if found else None)


def gain_of(
    numbers: list[int], firsts: np.ndarray, apart_logits: list[np.ndarray], wanted: np.ndarray, row: np.ndarray, damage: np.ndarray
) -> Gain:
    """What outliers apart gain over the windows of these ``numbers``, whose positions begin at ``firsts``; ``damage`` is the twin's, by its ``row``."""
    places = np.concatenate([np.arange(firsts[n], firsts[n + 1]) for n in numbers])
    kld = [diverge_at(ours, wanted[place], 0)[0] for ours, place in zip(np.concatenate(apart_logits), places, strict=True)]
    return Gain(float(damage[row[places]].mean()), float(np.mean(kld)), len(places))
