"""Proving a bundle: the written file, in its own runtime, against the FP32 checkpoint."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from firsttoken.backends.runner import Runner, open_runner
from firsttoken.bundle.manifest import AuditRow, Figures, Manifest, Proof, read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.prove.divergence import Divergence, collect, diverge_at, figures
from firsttoken.prove.gate import missed_figures, missed_structure
from firsttoken.prove.windows import Kind, Window, choose_windows
from firsttoken.quiet import quiet_runtime
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
    reference = references(source, decoder, manifest, windows, report)
    runner = open_runner(folder, threads)
    try:
        divergence, kinds, places = run_windows(runner, windows, reference, manifest.tokenizer.vocab_size, report)
    finally:
        runner.close()
    precisions = manifest.plan.resolve(plan_layers(decoder), manifest.target)
    with quiet_runtime():
        rows = audit(folder, manifest, decoder, precisions)
    proof = sum_up(manifest, divergence, kinds, places, name, text)
    proof.misses += missed_structure(rows, precisions, manifest.target)
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
        return path.name, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FirstTokenError(f"held-out text {path}: cannot be read as UTF-8 text ({error})") from None


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
    return choose_windows(tokens, manifest.tokenizer.begin, decoder, manifest.target, most, count)


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


def run_windows(
    runner: Runner, windows: list[Window], reference: list[np.ndarray], vocab_size: int, report: Report
) -> tuple[Divergence, np.ndarray, list[str]]:
    """Runs every window through the artifact; decoding is fed the text's own tokens, whatever the artifact predicts.

    Returns the divergence, the kind of call of each position, and its place in words.
    """
    rows, kinds, places = [], [], []
    theirs = (row for expected in reference for row in expected)
    for (logits, next_token, kind, place), expected in zip(run_steps(runner, windows, report), theirs, strict=True):
        rows.append(diverge_at(logits[:vocab_size], expected, next_token))
        kinds.append(kind)
        places.append(place)
    return collect(rows), np.array(kinds), places


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


def audit(folder: Path, manifest: Manifest, decoder: Decoder, precisions: dict[str, str]) -> list[AuditRow]:
    """What every layer is stored and computed in, as the runtime's own audit finds it in the file."""
    artifact = folder / manifest.cpu.file
    if manifest.target.runtime == "tflite":
        from firsttoken.backends.tflite import audit as audit_tflite

        return audit_tflite.audit(artifact, decoder, precisions, manifest.target)
    from firsttoken.backends.executorch import audit as audit_executorch

    return audit_executorch.audit(artifact, decoder, precisions)


def sum_up(manifest: Manifest, divergence: Divergence, kinds: np.ndarray, places: list[str], name: str, text: str) -> Proof:
    """Figures over all positions and by kind of call, held against the plan's gate.

    A position diverges where its KL divergence is past the gate's bound for the 99th percentile.
    """
    gate = manifest.plan.gate
    past = np.flatnonzero(divergence.kld > gate.p99_kld)

    def part(chosen: np.ndarray) -> Figures:
        first = next((n for n in past if chosen[n]), None)
        return figures(divergence, chosen, None if first is None else f"{places[first]}, {divergence.kld[first]:.3g} nats")

    everything = part(np.ones(len(kinds), bool))
    parts = {kind: part(kinds == kind) for kind in ("first", "extend", "decode")}
    misses = missed_figures(gate, everything, parts)
    return Proof(
        text=name,
        text_sha256=hashlib.sha256(text.encode()).hexdigest(),
        prefill=part(kinds != "decode"),
        decode=parts["decode"],
        all=everything,
        passed=not misses,
        misses=misses,
    )
