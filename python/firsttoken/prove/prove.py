"""Proving a bundle: the written file, in its own runtime, against the FP32 checkpoint."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from firsttoken import plain_file
from firsttoken.backends.registry import find_backend, resolve, resolve_for_cpu
from firsttoken.backends.runner import Runner
from firsttoken.bundle.draft_facts import DraftProof
from firsttoken.bundle.manifest import AuditRow, Manifest, Proof, read_manifest
from firsttoken.bundle.prefix_facts import PrefixProof
from firsttoken.bundle.witness_facts import Witness
from firsttoken.calibration.integers import with_integers
from firsttoken.calibration.text import read_text
from firsttoken.checkpoint import Checkpoint
from firsttoken.checkpoint_sources.open import open_checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.prove.compare import compare
from firsttoken.prove.drafts import prove_drafts
from firsttoken.prove.expected import expectations
from firsttoken.prove.gain import say_if_much
from firsttoken.prove.gate import missed_scales, missed_structure
from firsttoken.prove.smoothing import with_smoothing
from firsttoken.prove.verdict import sum_up
from firsttoken.prove.windows import GROWTH, Window, choose_windows
from firsttoken.prove.with_packed import logits_of, missed_packed, packed_proof
from firsttoken.prove.witness_lines import misunderstood
from firsttoken.prove.words import chat_window, missed_words
from firsttoken.quantized.kept import KeptCheckpoint, with_kept
from firsttoken.quiet import quiet_runtime
from firsttoken.run.open import open_runner
from firsttoken.run.prefix import prove_prefix
from firsttoken.tokenizer import Tokenizer, open_tokenizer

HELD_OUT_FILE = "held_out.txt"


def prove(
    bundle: str | Path,
    checkpoint: str | Path | Checkpoint,
    held_out: str | Path | None = None,
    threads: int | None = None,
    report: Report = silent,
    witness: Witness | None = None,
    say_gain: Callable[[str], None] | None = None,
) -> tuple[Proof, list[AuditRow]]:
    """Compares a bundle with its checkpoint and returns the figures and the audit; ``proof.passed`` is the gate's word.

    ``held_out`` is a text file (default: ``held_out.txt`` of the checkpoint folder, else the demo's). Logits are compared
    over the tokenizer's vocabulary: padded rows are never sampled, and many checkpoints leave noise in them. ``witness`` is what
    transformers said of the checkpoint (`prove.witness`), to be recorded; None: it was not thought of. ``say_gain`` is given a line where another plan would
    be much nearer (`prove.gain`), for a little more time. Raises
    `FirstTokenError` if the bundle is damaged or was made from another checkpoint; a missed bound is not an error here.
    """
    folder = Path(bundle)
    manifest = read_manifest(folder)
    source = own_checkpoint(folder, manifest, checkpoint, report)
    decoder = open_decoder(source)
    name, text = held_out_text(source.folder, held_out)
    tokenizer = open_tokenizer(folder, manifest)
    windows = proof_windows(text, tokenizer, decoder, manifest)
    chat = chat_window(Tokenizer(source.folder), source.folder, manifest.target.cache_length, manifest.tokenizer.vocab_size)
    windows += [] if chat is None else [chat]
    backend, precisions = find_backend(manifest.cpu.backend), resolve_for_cpu(manifest.plan, decoder, manifest.target)
    expected = expectations(source, decoder, manifest, windows, precisions, backend, report, say_gain is not None)
    if say_gain is not None:
        say_if_much(expected.gain, manifest.plan, say_gain)
    runner = open_runner(folder, threads, kept=False)
    try:
        seen = compare(runner, windows, expected, report)
        kept = prefix_proof(runner, manifest, tokenizer)
        by_itself = [] if manifest.packed is None else logits_of(runner, windows[0].tokens)
        draft = prove_drafts(runner, np.array(tokenizer.encode(text, begin=False), np.int32), manifest.tokenizer.vocab_size)
    finally:
        runner.close()
    packed = packed_proof(folder, manifest, windows[0].tokens, by_itself, threads)
    with quiet_runtime():
        asked = manifest.plan.written(plan_layers(decoder), precisions)
        rows = with_origin(backend.audit(folder / manifest.cpu.file, decoder, asked), manifest)
    proof = sum_up(manifest, seen, windows, name, text)
    proof.misses += missed_structure(rows, asked, backend) + missed_scales(rows, manifest.calibration)
    proof.misses += missed_words(folder, manifest, source.folder)
    proof.prefix = kept
    proof.misses += missed_prefix(manifest, kept)
    proof.packed = packed
    proof.misses += missed_packed(packed)
    proof.draft = draft
    proof.misses += missed_drafts(manifest, draft)
    add_witness(proof, witness)
    return proof, rows


def prefix_proof(runner: Runner, manifest: Manifest, tokenizer: Tokenizer) -> PrefixProof | None:
    """What a bundle's kept system prompt gives; None where there is none."""
    if runner.prefix is None or manifest.chat is None or manifest.chat.conversation is None:
        return None
    return prove_prefix(runner, runner.prefix, manifest.chat.conversation, tokenizer)


def missed_prefix(manifest: Manifest, proof: PrefixProof | None) -> list[str]:
    """A kept system prompt has to be what computing it gives, or, where it is stored in fewer bits, within the plan's bound of it."""
    if proof is None or manifest.prefix is None:
        return []
    if manifest.prefix.stored == "fp32" and not proof.equal_bits:
        return [
            f"the kept system prompt gives other logits than computing it, {proof.worst_kld:.3g} nats at most; it is of another artifact, runtime or machine: export again"
        ]
    most = manifest.plan.gate.mean_kld
    if proof.mean_kld > most:
        return [
            f"the kept system prompt, stored in {manifest.prefix.stored}, is {proof.mean_kld:.3g} nats from computing it; the plan asks {most:g}: give --prefix-precision fp32"
        ]
    return []


def missed_drafts(manifest: Manifest, proof: DraftProof | None) -> list[str]:
    """Checking drafts has to be there where the target asks for it, and within the plan's bound of decoding, also after a draft that was wrong."""
    if proof is None:
        return [] if manifest.target.draft_tokens is None else ["the artifact has no method that checks drafts; export again"]
    most = manifest.plan.gate.mean_kld
    if proof.mean_kld > most:
        return [f"checking drafts is {proof.mean_kld:.3g} nats from decoding, {proof.worst_kld:.3g} at most; the plan asks {most:g}"]
    return []


def with_origin(rows: list[AuditRow], manifest: Manifest) -> list[AuditRow]:
    """The audit with the format that each layer's integers are kept from."""
    forms = {layer: kept.form for kept in manifest.kept for layer in kept.layers}
    return [row.model_copy(update={"integers": forms.get(row.layer, "")}) for row in rows]


def add_witness(proof: Proof, witness: Witness | None) -> None:
    """Records the witness; one that understands the checkpoint otherwise is a miss."""
    line = misunderstood(witness)
    proof.witness = witness
    proof.misses += [] if line is None else [line]
    proof.passed = not proof.misses


def own_checkpoint(folder: Path, manifest: Manifest, checkpoint: str | Path | Checkpoint, report: Report = silent) -> Checkpoint:
    """Opens the checkpoint, with the integers that the plan's method chose. Raises `FirstTokenError` if the bundle was made from another one."""
    source = open_checkpoint(checkpoint)
    if source.fingerprint() != manifest.checkpoint.fingerprint:
        raise FirstTokenError(
            f"bundle {folder}: was made from another checkpoint than {source.folder} ({manifest.checkpoint.name!r}); give that one with --checkpoint"
        )
    asked = manifest.kept or manifest.calibration is not None
    if not asked or isinstance(source, KeptCheckpoint) or source.original is not source:  # the last two as the export gives it
        return source
    decoder = open_decoder(source)
    precisions, text = resolve(manifest.plan, decoder, manifest.target), read_text(None)
    if manifest.calibration is not None:
        source = with_smoothing(source, decoder, precisions, find_backend(manifest.cpu.backend), manifest.calibration, text, report)
    if manifest.kept:
        source, _ = with_kept(source, decoder, manifest.plan, precisions)
    return with_integers(source, decoder, manifest.plan, precisions, manifest.calibration, text, report)


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
