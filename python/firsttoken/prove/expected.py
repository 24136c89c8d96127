"""What an artifact is held against: logits of the checkpoint, and of the plan computed on the host, the twin."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from firsttoken.backends.interface import Backend
from firsttoken.bundle.lineage import proof_reference
from firsttoken.bundle.manifest import Manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.progress import Report, silent
from firsttoken.prove.arithmetic import Fp32
from firsttoken.prove.divergence import diverge_at
from firsttoken.prove.reference import logits_in
from firsttoken.prove.twin import Twin, planned, twin_windows
from firsttoken.prove.windows import Window


@dataclass(frozen=True)
class Expected:
    """The reference's logits at every compared position, float32 ``[positions, vocab]``, and the twin's where it was run.

    ``overflow`` is the first layer in which the plan's FP16 ran over; then there is no twin.
    """

    reference: np.ndarray
    twin: Twin | None = None
    overflow: str | None = None


def expectations(
    checkpoint: Checkpoint,
    decoder: Decoder,
    manifest: Manifest,
    windows: list[Window],
    precisions: Mapping[str, str],
    backend: Backend,
    report: Report = silent,
) -> Expected:
    """Computes the reference over all windows and the twin over some, all in one pass over the checkpoint.

    The reference is the checkpoint's, or its float student's where it was trained for quantization (`bundle.lineage`): then the twin,
    whose weights are the checkpoint's own, is computed apart. Logits are over the tokenizer's vocabulary.
    """
    run, positions = [window.tokens[:-1] for window in windows], [window.positions for window in windows]
    chosen = twin_windows(windows)
    exact, noisy = (planned(decoder, manifest.plan, precisions, backend, noise) for noise in (False, True))
    plain = (Fp32(), list(range(len(windows))))
    original, size = proof_reference(checkpoint), manifest.tokenizer.vocab_size
    both: list[tuple[Fp32, list[int]]] = [(exact, chosen), (noisy, chosen)]
    if original is checkpoint:
        reference, ours, off = logits_in(checkpoint, decoder, [plain, *both], run, positions, size, report)
    else:
        [reference] = logits_in(original, decoder, [plain], run, positions, size, report)
        ours, off = logits_in(checkpoint, decoder, both, run, positions, size, report)
    firsts = np.cumsum([0, *(len(window.positions) for window in windows)])
    places = np.concatenate([np.arange(firsts[n], firsts[n + 1]) for n in chosen])
    row = np.full(firsts[-1], -1)
    row[places] = np.arange(len(places))
    wanted, logits = np.concatenate(reference), np.concatenate(ours)
    if exact.overflow:
        return Expected(wanted, overflow=exact.overflow[0])
    noise = np.array([diverge_at(a, b, 0)[0] for a, b in zip(np.concatenate(off), logits, strict=True)])
    damage = np.array([diverge_at(a, wanted[place], 0)[0] for a, place in zip(logits, places, strict=True)])
    return Expected(wanted, Twin(logits, row, noise, damage))
