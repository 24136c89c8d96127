"""Proving a file that firsttoken did not write: run in its own runtime, against the checkpoint that it was made from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firsttoken.backends.interface import Backend
from firsttoken.backends.registry import find_backend
from firsttoken.bundle.integer_facts import CalibrationFacts
from firsttoken.bundle.manifest import Proof, TokenizerFacts
from firsttoken.bundle.witness_facts import Witness
from firsttoken.checkpoint import Checkpoint
from firsttoken.checkpoint_sources.open import open_checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.foreign.open import format_of, open_file, read_subject
from firsttoken.foreign.structure import Structure
from firsttoken.progress import Report, silent
from firsttoken.prove.compare import compare
from firsttoken.prove.expected import expectations
from firsttoken.prove.prove import add_witness, held_out_text
from firsttoken.prove.roundings import misfit, nearest_plan
from firsttoken.prove.twin import NOT_BUILT
from firsttoken.prove.verdict import sum_up
from firsttoken.prove.windows import choose_windows
from firsttoken.prove.words import chat_window
from firsttoken.quant.plan import Plan, load_plan
from firsttoken.targets.target import Target
from firsttoken.tokenizer import Tokenizer


@dataclass(frozen=True)
class FileProof:
    """A file's proof and what it is made of; ``read`` says where its lengths and words are from, ``compared`` what was and was not compared.

    ``bounds`` is the plan whose gate it was held to; ``passed`` and ``misses`` are the proof's.
    """

    path: Path
    proof: Proof
    structure: Structure
    bounds: str
    read: list[str]
    compared: list[str]


@dataclass(frozen=True)
class Held:
    """A subject and the plan that it is held to, in a manifest's place."""

    plan: Plan
    target: Target
    tokenizer: TokenizerFacts
    calibration: CalibrationFacts | None = None


def prove_file(
    path: str | Path,
    checkpoint: str | Path | Checkpoint,
    plan: str | Path | None = None,
    cache_length: int | None = None,
    begin: int | None = None,
    held_out: str | Path | None = None,
    threads: int | None = None,
    report: Report = silent,
    witness: Witness | None = None,
) -> FileProof:
    """Compares a file with the checkpoint, over its whole cache; a missed bound is no error here.

    With a ``plan`` (a name or a ``.toml``) its gate counts, and the file is held against the plan computed on the host where it stores what the
    plan asks. Without one both are of the built-in plan that is nearest to what is stored, and how far it is from that plan's twin is said, but no
    miss: its weights may have been chosen in another way. ``cache_length`` (tokens) and ``begin`` (a
    token) are for files that do not say; ``witness`` as in `prove.prove`. Raises `FirstTokenError` for a file that cannot be run, or is of another vocabulary.
    """
    path = Path(path)
    asked = None if plan is None else load_plan(plan)
    source = open_checkpoint(checkpoint)
    decoder = open_decoder(source)
    subject = read_subject(path, source, cache_length, begin)
    found = format_of(path)
    made_of: Structure = found.reader.structure(path)
    chosen = asked or load_plan(nearest_plan(made_of))
    held = Held(chosen, subject.target, subject.tokenizer)
    backend = find_backend(found.backend)
    precisions, why_not = twin_of(made_of, decoder, chosen, backend)
    name, text = held_out_text(source.folder, held_out)
    tokenizer = Tokenizer(source.folder)
    tokens = np.array(tokenizer.encode(text, begin=False), np.int32)
    windows = choose_windows(tokens, subject.tokenizer.begin, decoder, subject.target)
    chat = chat_window(tokenizer, source.folder, subject.target.cache_length, subject.tokenizer.vocab_size)
    windows += [] if chat is None else [chat]
    expected = expectations(source, decoder, held, windows, precisions, backend, report)
    runner = open_file(subject, threads, kept=False)
    try:
        seen = compare(runner, windows, expected, report)
    finally:
        runner.close()
    proof = sum_up(held, seen, windows, name, text)
    proof.misses += [subject.begin_differs] if subject.begin_differs else []
    aside = [] if asked is not None else [miss for miss in proof.misses if miss.startswith(NOT_BUILT)]
    proof.misses = [miss for miss in proof.misses if miss not in aside]
    add_witness(proof, witness)
    return FileProof(path, proof, made_of, chosen.name, subject.notes, compared_lines(chosen, asked is not None, why_not, aside))


def twin_of(made_of: Structure, decoder: Decoder, plan: Plan, backend: Backend) -> tuple[Mapping[str, str] | None, str]:
    """Every layer's precision for a twin of the file, or why there is none."""
    try:
        precisions = plan.resolve(plan_layers(decoder), backend.name, backend.precisions, backend.group_scales, backend.outliers_apart)
    except FirstTokenError as error:
        return None, str(error)
    why_not = misfit(made_of, decoder, plan, precisions)
    return (None, why_not) if why_not else (precisions, "")


def compared_lines(plan: Plan, named: bool, why_not: str, aside: list[str]) -> list[str]:
    """What the proof looked at, and what it did not; ``aside`` are misses of a twin that no one asked for."""
    twin = f"NOT compared with a plan computed on the host: {why_not}"
    if not why_not:
        twin = f"compared with the plan {plan.name} computed on the host{'' if named else ', for it stores what that plan asks'}"
    return [
        *(f"WARNING, no miss without --plan {plan.name}: {miss}" for miss in aside),
        f"held to the bounds of the plan {plan.name}{'' if named else ', the nearest to what is stored (name another with --plan)'}",
        twin,
        "NOT compared: its tokenizer, end tokens and chat template (texts were cut by the checkpoint's tokenizer), and which checkpoint it was made from",
    ]
