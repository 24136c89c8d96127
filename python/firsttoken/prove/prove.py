"""Proving a bundle: the written file, in its own runtime, against the FP32 checkpoint."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firsttoken import plain_file
from firsttoken.backends.interface import Backend
from firsttoken.backends.registry import find_backend, resolve
from firsttoken.backends.runner import Runner
from firsttoken.bundle.manifest import AuditRow, Figures, Manifest, Proof, read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import open_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.prove import twin
from firsttoken.prove.divergence import Divergence, collect, diverge_at, figures
from firsttoken.prove.gate import missed_figures, missed_structure, missed_worst
from firsttoken.prove.windows import GROWTH, Kind, Window, choose_windows
from firsttoken.prove.words import chat_window, missed_words
from firsttoken.quiet import quiet_runtime
from firsttoken.run.open import open_runner
from firsttoken.tokenizer import Tokenizer, open_tokenizer

HELD_OUT_FILE = "held_out.txt"


def prove(
    bundle: str | Path,
    checkpoint: str | Path | Checkpoint,
    held_out: str | Path | None = None,
    threads: int | None = None,
    report: Report = silent,
) -> tuple[Proof, list[AuditRow]]:
    """Compares a bundle with its checkpoint and returns the figures and the audit; ``proof.passed`` is the gate's word.

    ``held_out`` is a text file (default: ``held_out.txt`` of the checkpoint folder, else the demo's). Logits are compared
    over the tokenizer's vocabulary: padded rows are never sampled, and many checkpoints leave noise in them. Raises
    `FirstTokenError` if the bundle is damaged or was made from another checkpoint; a missed bound is not an error here.
    """
    folder = Path(bundle)
    manifest = read_manifest(folder)
    source = own_checkpoint(folder, manifest, checkpoint)
    decoder = open_decoder(source)
    name, text = held_out_text(source.folder, held_out)
    tokenizer = open_tokenizer(folder, manifest)
    windows = proof_windows(text, tokenizer, decoder, manifest)
    chat = chat_window(Tokenizer(source.folder), source.folder, manifest.target.cache_length, manifest.tokenizer.vocab_size)
    windows += [] if chat is None else [chat]
    backend, precisions = find_backend(manifest.cpu.backend), resolve(manifest.plan, decoder, manifest.target)
    expected = expectations(source, decoder, manifest, windows, precisions, backend, report)
    runner = open_runner(folder, threads, kept=False)
    try:
        seen = run_windows(runner, windows, expected, manifest.tokenizer.vocab_size, report)
    finally:
        runner.close()
    with quiet_runtime():
        rows = backend.audit(folder / manifest.cpu.file, decoder, precisions)
    proof = sum_up(manifest, seen, name, text)
    proof.misses += missed_structure(rows, precisions, backend) + missed_words(folder, manifest, source.folder)
    proof.passed = not proof.misses
    return proof, rows


def own_checkpoint(folder: Path, manifest: Manifest, checkpoint: str | Path | Checkpoint) -> Checkpoint:
    """Opens the checkpoint. Raises `FirstTokenError` if the bundle was made from another one."""
    source = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
    if source.fingerprint() != manifest.checkpoint.fingerprint:
        raise FirstTokenError(
            f"bundle {folder}: was made from another checkpoint than {source.folder} ({manifest.checkpoint.name!r}); give that one with --checkpoint"
        )
    return source


def held_out_text(folder: Path, held_out: str | Path | None) -> tuple[str, str]:
    """Returns the name and content of the held-out text. Raises `FirstTokenError` if it cannot be read as UTF-8."""
    own = folder / HELD_OUT_FILE
    if held_out is None and not own.exists():
        from firsttoken.demo import held_out_text as demo_text

        return "the demo checkpoint's held-out text", demo_text()
    path = Path(held_out) if held_out is not None else own
    try:
        return path.name, plain_file.read_text(path, plain_file.TEXT_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise FirstTokenError(f"held-out text {path}: cannot be read as UTF-8 text ({plain_file.why(error)})") from None


def proof_windows(
    text: str,
    tokenizer: Tokenizer,
    decoder: Decoder,
    manifest: Manifest,
    most: tuple[int, int] | None = None,
    count: int | None = None,
) -> list[Window]:
    """Cuts the text into the windows that are run; ``most`` and ``count`` are `choose_windows`'s."""
    tokens = np.array(tokenizer.encode(text, begin=False), np.int32)
    step = max([state.step for state in manifest.cpu.states if state.step > 1], default=GROWTH)
    return choose_windows(tokens, manifest.tokenizer.begin, decoder, manifest.target, most, count, step)


def references(checkpoint: Checkpoint, decoder: Decoder, manifest: Manifest, windows: list[Window], report: Report) -> list[np.ndarray]:
    """Reference logits of every window at its compared positions, float32 ``[positions, tokenizer's vocabulary]``.

    They are the checkpoint's, or its float student's where it was trained for quantization (`bundle.lineage`).
    """
    from firsttoken.bundle.lineage import proof_reference
    from firsttoken.prove.reference import reference_logits

    run = [window.tokens[:-1] for window in windows]
    return reference_logits(
        proof_reference(checkpoint), decoder, run, [window.positions for window in windows], manifest.tokenizer.vocab_size, report
    )


@dataclass(frozen=True)
class Expected:
    """Logits at every compared position: the checkpoint's and the twin's (None where it was not computed), and the twin's own distances."""

    reference: np.ndarray
    twin: np.ndarray | None = None
    distances: twin.Distances | None = None


def expectations(
    checkpoint: Checkpoint,
    decoder: Decoder,
    manifest: Manifest,
    windows: list[Window],
    precisions: Mapping[str, str],
    backend: Backend,
    report: Report,
) -> Expected:
    """Computes what an artifact of ``backend`` is held against, all of it in one pass over the checkpoint.

    The reference is the checkpoint's, or its float student's where it was trained for quantization (`bundle.lineage`): then
    the twin, whose weights are the checkpoint's own, is computed apart.
    """
    from firsttoken.bundle.lineage import proof_reference
    from firsttoken.prove.arithmetic import Fp32
    from firsttoken.prove.reference import logits_in

    run, positions = [window.tokens[:-1] for window in windows], [window.positions for window in windows]
    everything, noisy = list(range(len(windows))), twin.noise_windows(windows)
    plain = (Fp32(), everything)
    both = [
        (twin.planned(decoder, manifest.plan, precisions, backend), everything),
        (twin.planned(decoder, manifest.plan, precisions, backend, noise=True), noisy),
    ]
    original = proof_reference(checkpoint)
    size = manifest.tokenizer.vocab_size
    if original is checkpoint:
        reference, ours, off = logits_in(checkpoint, decoder, [plain, *both], run, positions, size, report)
    else:
        [reference] = logits_in(original, decoder, [plain], run, positions, size, report)
        ours, off = logits_in(checkpoint, decoder, both, run, positions, size, report)
    noise = [np.full(len(values), np.nan) for values in ours]
    for n, values in zip(noisy, off, strict=True):
        noise[n][:] = [diverge_at(a, b, 0)[0] for a, b in zip(values, ours[n], strict=True)]
    expected, by_plan = np.concatenate(reference), np.concatenate(ours)
    damage = [diverge_at(a, b, 0)[0] for a, b in zip(by_plan, expected, strict=True)]
    return Expected(expected, by_plan, twin.Distances(np.concatenate(noise), np.array(damage)))


@dataclass(frozen=True)
class Seen:
    """What an artifact computed at every position, held against what was expected; ``last_position`` is the last row of the cache that was run."""

    divergence: Divergence
    kinds: np.ndarray
    places: list[str]
    positions: np.ndarray
    fits: list[twin.Fit]
    distances: twin.Distances | None


def run_windows(runner: Runner, windows: list[Window], expected: Expected, vocab_size: int, report: Report) -> Seen:
    """Runs every window through the artifact; decoding is fed the text's own tokens, whatever the artifact predicts."""
    rows, kinds, places, fits = [], [], [], []
    for n, (logits, next_token, kind, place) in enumerate(run_steps(runner, windows, report)):
        rows.append(diverge_at(logits[:vocab_size], expected.reference[n], next_token))
        if expected.twin is not None:
            fits.append(twin.fit(logits[:vocab_size], expected.twin[n]))
        kinds.append(kind)
        places.append(place)
    positions = np.concatenate([window.positions for window in windows])
    return Seen(collect(rows), np.array(kinds), places, positions, fits, expected.distances)


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
            yield logits, int(window.tokens[stop]), kind, f"window {number}, {kind} at position {stop - 1}"


BUCKETS = ((0, 64), (64, 256), (256, 1024), (1024, 4096), (4096, 1 << 30))  # rows of the cache


def sum_up(manifest: Manifest, seen: Seen, name: str, text: str) -> Proof:
    """Figures over all positions, by kind of call and part of the cache, held against the plan's gate and the twin.

    A position diverges where its KL divergence is past the gate's bound for the 99th percentile.
    """
    gate, divergence = manifest.plan.gate, seen.divergence
    past = np.flatnonzero(divergence.kld > gate.p99_kld)

    def part(chosen: np.ndarray) -> Figures:
        first = next((n for n in past if chosen[n]), None)
        return figures(divergence, chosen, None if first is None else f"{seen.places[first]}, {divergence.kld[first]:.3g} nats")

    groups = {f"the {kind} calls": seen.kinds == kind for kind in ("first", "extend", "decode")}
    for start, stop in BUCKETS:
        stop = min(stop, manifest.target.cache_length)
        groups |= {f"positions {start} to {stop - 1}": (seen.positions >= start) & (seen.positions < stop)}
    groups = {group: chosen for group, chosen in groups.items() if chosen.any()}
    everything = part(np.ones(len(seen.kinds), bool))
    parts = {group: part(chosen) for group, chosen in groups.items()}
    misses = missed_figures(gate, everything, parts) + missed_worst(gate, divergence, seen.places)
    fit = None
    if seen.fits and seen.distances is not None:
        fit = twin.figures(seen.fits, seen.distances)
        misses += twin.missed(fit, seen.fits, seen.distances, groups)
    return Proof(
        text=name,
        text_sha256=hashlib.sha256(text.encode()).hexdigest(),
        last_position=int(seen.positions.max()),
        twin=fit,
        prefill=part(seen.kinds != "decode"),
        decode=part(seen.kinds == "decode"),
        all=everything,
        passed=not misses,
        misses=misses,
    )
