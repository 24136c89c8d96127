"""The main job: a checkpoint in, proven bundles out."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.lowering_result import Lowered
from firsttoken.backends.recurrence import short_calls_note, with_short_calls
from firsttoken.backends.registry import backend_of, find_backend, resolve
from firsttoken.bundle.atomic import Staging
from firsttoken.bundle.files import check_destination, file_facts, rejected_name
from firsttoken.bundle.lineage import read_lineage
from firsttoken.bundle.manifest import CheckpointIdentity, Manifest, Rotation
from firsttoken.bundle.prefix_facts import Stored
from firsttoken.bundle.witness_facts import Witness
from firsttoken.checkpoint import Checkpoint
from firsttoken.checkpoint_sources.open import open_checkpoint
from firsttoken.checkpoint_sources.write_folder import note_of
from firsttoken.checkpoint_words import Words, read_words
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import described_by, open_decoder, parameter_count, plan_layers, rotations
from firsttoken.errors import FirstTokenError, GateError
from firsttoken.last_words import doing
from firsttoken.packing import Packing, check_packing, leave_out_weights, pack, with_packing
from firsttoken.preflight import check_room, estimate
from firsttoken.prepared import calibration_text, check_calibrated, prepared
from firsttoken.progress import Report, silent
from firsttoken.quant.plan import Plan, load_plan
from firsttoken.quantized.kept import Integers
from firsttoken.quantized.stored_plan import for_checkpoint
from firsttoken.quiet import quiet_runtime
from firsttoken.targets.target import Target, load_target
from firsttoken.tokenizer import Tokenizer

PACKAGES = ("firsttoken", "torch", "torchao", "executorch", "ai-edge-litert", "tokenizers", "numpy", "gguf", "llama-cpp-python")


@dataclass(frozen=True)
class Job:
    """One bundle to make, checked: every precision is resolved against the target."""

    target: Target
    precisions: dict[str, str]
    destination: Path


def export(
    checkpoint: str | Path | Checkpoint,
    output: str | Path,
    plan: str | Path = "fp16-attention",
    targets: Sequence[str | Path] = ("tflite-xnnpack",),
    prove: bool = True,
    force: bool = False,
    held_out: str | Path | None = None,
    cache_length: int | None = None,
    prefill_chunk: int | None = None,
    report: Report = silent,
    say: Callable[[str], None] = lambda line: None,
    end_tokens: Sequence[int | str] = (),
    witness: bool = True,
    adapter: str | Path | None = None,
    calibration: str | Path | None = None,
    system_prompt: str | None = None,
    prefix_precision: Stored = "fp32",
    pack_for: Sequence[str] = (),
    packed_only: bool = False,
    draft_tokens: int | None = None,
) -> list[Path]:
    """Exports a checkpoint (`checkpoint_sources.open`), with the LoRA ``adapter`` merged in, to one bundle per target, ``output/<target name>/``, and returns those folders.

    Everything that can be known before is checked before any work. ``held_out`` is a text file for the proof;
    ``cache_length``, ``prefill_chunk`` and ``draft_tokens`` (tokens) replace the targets'; ``end_tokens`` (`end_tokens.asked_ends`) the checkpoint's; ``witness`` false
    leaves out asking transformers (`prove.witness`), which comes before the work; ``calibration`` is a text file for a plan's method that
    chooses integers by one (`calibration.text`); of ``system_prompt`` the bundle keeps the CPU artifact's cache in ``prefix_precision`` (`run.prefix`); ``pack_for`` names kinds of CPU whose packed weights go into
    the bundle, with ``packed_only`` in the place of the artifact's own (`packing`); ``say`` is given a line before the work starts
    and one for each note. Raises `FirstTokenError` for bad input or no room, and `GateError` for a checkpoint that
    transformers understands otherwise, and for a bundle that missed its proof (it is kept as ``<target name>.rejected``; bundles finished before it stay).
    """
    with open_checkpoint(checkpoint, adapter, report) as source:
        decoder = open_decoder(source)
        for remark in source.remarks:
            say(remark)
        chosen = for_checkpoint(load_plan(plan), source, decoder)
        jobs = plan_jobs(decoder, chosen, targets, Path(output), force, cache_length, prefill_chunk, prove, draft_tokens)
        packing = check_pack_for(decoder, chosen, jobs, pack_for, packed_only)
        if (note := short_calls_note(decoder)) is not None:
            say(note)
        words = read_words(source, decoder, end_tokens, say)
        tokenizer = words.tokenizer
        if (note := note_of(source)) is not None:
            say(note)
        calibrated = calibration_text(source, chosen, calibration, held_out, say)
        kept = check_prefix(system_prompt, prefix_precision, words, jobs)
        if prove:
            check_held_out(source, decoder, tokenizer, jobs, held_out)
        needed = {job.target.name: estimate(decoder, job.precisions, job.target, prove) for job in jobs}
        needed = {name: with_packing(each, len(packing.isas)) for name, each in needed.items()}
        say(check_room(needed, Path(output), source.name, decoder))
        found = ask_witness(source, decoder, held_out, witness, report) if prove else None
        folders = []
        for job in jobs:
            rounded, integers = prepared(source, decoder, chosen, job.target, job.precisions, calibrated, report, say)
            folders.append(
                make_bundle(
                    rounded,
                    described_by(rounded, decoder),
                    chosen,
                    job,
                    words,
                    found,
                    force,
                    held_out,
                    report,
                    say,
                    integers,
                    kept,
                    packing,
                )
            )
        return folders


def check_pack_for(decoder: Decoder, plan: Plan, jobs: list[Job], asked: Sequence[str], only: bool) -> Packing:
    """What is to be packed, checked. Raises `FirstTokenError`."""
    layers = [layer for layer in plan_layers(decoder) if layer.kind == "linear" and layer.name != "head"]
    for job in jobs if only else ():
        if all(
            job.precisions[layer.name] == "int4" and plan.group(layer.name, layer.matrix[1][1]) < layer.matrix[1][1] for layer in layers
        ):
            raise FirstTokenError(
                f"target {job.target.name!r}: --packed-only makes what lacks its weights compute no number, and int4 in groups alone still would; leave it out, or take a plan like int4-mlp"
            )
    wanted = [
        (job.target.name, find_backend(job.target.cpu_backend), job.target.npu is not None or job.target.gpu is not None) for job in jobs
    ]
    return check_packing(asked, only, wanted)


def plan_jobs(
    decoder: Decoder,
    plan: Plan,
    targets: Sequence[str | Path],
    output: Path,
    force: bool,
    cache_length: int | None,
    prefill_chunk: int | None,
    prove: bool = True,
    draft_tokens: int | None = None,
) -> list[Job]:
    """Resolves the plan against every target and checks every destination. Raises `FirstTokenError`."""
    jobs: list[Job] = []
    for name in targets:
        target = load_target(name, cache_length, prefill_chunk, draft_tokens)
        backend = backend_of(target)
        backend.check_model(decoder, target)
        backend.check_installed(f"target {target.name!r}")
        backend.check_tools(target, prove)
        if any(job.target.name == target.name for job in jobs):
            raise FirstTokenError(f"target {target.name!r} is given twice; each bundle folder is named after its target")
        target = with_short_calls(target, decoder)
        precisions = resolve(plan, decoder, target)
        check_calibrated(decoder, plan, precisions, target)
        jobs.append(Job(target, precisions, output / target.name))
    if not jobs:
        raise FirstTokenError("no target given; name at least one with --target")
    for job in jobs:
        check_destination(job.destination, force)
    return jobs


def check_held_out(source: Checkpoint, decoder: Decoder, tokenizer: Tokenizer, jobs: list[Job], held_out: str | Path | None) -> None:
    """Raises `FirstTokenError` if the text for the proof cannot be read or is too short for a target's windows."""
    from firsttoken.prove.prove import held_out_text
    from firsttoken.prove.windows import choose_windows

    tokens = np.array(tokenizer.encode(held_out_text(source.folder, held_out)[1], begin=False), np.int32)
    for job in jobs:
        choose_windows(tokens, tokenizer.begin, decoder, job.target)


def ask_witness(source: Checkpoint, decoder: Decoder, held_out: str | Path | None, wanted: bool, report: Report) -> Witness:
    """What transformers says of the checkpoint, before the work. Raises `GateError` where it understands another model."""
    from firsttoken.prove.prove import held_out_text
    from firsttoken.prove.witness import witness
    from firsttoken.prove.witness_lines import need_understood

    found = witness(source, decoder, held_out_text(source.folder, held_out)[1], wanted, report)
    need_understood(found)
    return found


def make_bundle(
    source: Checkpoint,
    decoder: Decoder,
    plan: Plan,
    job: Job,
    words: Words,
    witness: Witness | None,
    force: bool,
    held_out: str | Path | None,
    report: Report,
    say: Callable[[str], None],
    integers: Integers,
    kept: tuple[str, Stored] | None = None,
    packing: Packing | None = None,
) -> Path:
    """Writes one bundle under a hidden name, proves it there and renames it into place; returns its folder.

    ``witness`` goes into the proof; without one there is none. ``kept`` is a system prompt to keep, and in what; ``packing`` what is packed.
    """
    target = job.target
    with doing(f"exporting {target.name}"), Staging(job.destination) as staging:
        check_destination(job.destination, force)  # again: opening the staging folder may have restored a bundle
        folder = staging.folder
        try:
            backend = backend_of(target)
            with quiet_runtime():
                begin, ends = words.tokenizer.begin_token, words.facts.end
                ranges = {} if integers.calibration is None else integers.calibration.ranges
                lowering = LoweringJob(source, decoder, plan, target, job.precisions, begin, ends, ranges)
                lowered = backend.lower(lowering, folder / backend.artifact_file, staged(report, target.name))
            words.tokenizer.copy_files(folder)
            manifest = describe(source, decoder, plan, target, words, lowered, folder, staged(report, target.name), integers)
            manifest.write(folder)
            if kept is not None:
                keep_prefix(manifest, folder, *kept)
            if packing is not None and packing.isas:
                pack(folder, manifest, packing.isas, say)
            if witness is not None:
                prove_here(manifest, folder, job.destination, source, held_out, witness, staged(report, target.name), say)
            misses = proof_misses(manifest)
            if packing is not None and packing.only and not misses:
                leave_out_weights(folder, manifest, say)
            if not misses:
                check_destination(job.destination, force)  # something may have been put there in the meantime
                staging.commit(replace=force)
        except OSError as error:
            raise no_room(error, job.destination) from error
        for note in lowered.notes:
            say(f"{target.name}: {note}")
        if misses:
            rejected = rejected_name(job.destination)
            staging.commit(replace=True, destination=rejected)
            raise GateError(f"{target.name}: rejected by its proof, kept as {rejected}: {'; '.join(misses)}")
    return job.destination


def check_prefix(system: str | None, stored: Stored, words: Words, jobs: list[Job]) -> tuple[str, Stored] | None:
    """Returns what is to be kept, if anything. Raises `FirstTokenError` for a template, a target or a cache that it cannot be kept for."""
    if system is None:
        return None
    from firsttoken.run.prefix import pieces_of, prefix_tokens

    if not system.strip():
        raise FirstTokenError("--system-prompt: is empty; give a text, or leave it out")
    pieces = pieces_of(words.chat)
    for job in jobs:
        if why := find_backend(job.target.cpu_backend).cache_refused():
            raise FirstTokenError(
                f"target {job.target.name!r}: {why}, so no system prompt can be kept; leave out --system-prompt, or give a tflite or litertlm target"
            )
        prefix_tokens(pieces, words.tokenizer, system, job.target.cache_length)
    return system, stored


def keep_prefix(manifest: Manifest, folder: Path, system: str, stored: Stored) -> None:
    """Runs the system prompt through the written artifact and keeps its cache in the bundle."""
    from firsttoken.run.open import open_runner
    from firsttoken.run.prefix import make_prefix
    from firsttoken.tokenizer import open_tokenizer

    runner = open_runner(folder, kept=False)
    try:
        manifest.prefix = make_prefix(folder, manifest, runner, open_tokenizer(folder, manifest), system, stored)
    finally:
        runner.close()
    manifest.files[manifest.prefix.file] = file_facts(folder / manifest.prefix.file)
    manifest.write(folder)


def describe(
    source: Checkpoint,
    decoder: Decoder,
    plan: Plan,
    target: Target,
    words: Words,
    lowered: Lowered,
    folder: Path,
    report: Report,
    integers: Integers,
) -> Manifest:
    """Returns the manifest of what was written to ``folder``, without its proofs."""
    files = [*(artifact.file for artifact in lowered.artifacts), *lowered.beside, *words.facts.files]
    return Manifest(
        checkpoint=CheckpointIdentity(
            name=source.name,
            fingerprint=source.fingerprint(),
            family=decoder.family,
            parameters=parameter_count(decoder),
            hidden_size=decoder.hidden_size,
            layers=len(decoder.layers),
            vocab_size=decoder.vocab_size,
        ),
        lineage=read_lineage(source),
        plan=plan,
        calibration=integers.calibration,
        kept=integers.kept,
        target=target,
        artifacts=lowered.artifacts,
        rotations=[
            Rotation(layers=layers, inverse_frequencies=list(rope.inverse_frequencies), factor=rope.factor)
            for rope, layers in rotations(decoder).items()
        ],
        tokenizer=words.facts,
        chat=words.chat,
        packages=package_versions(),
        files={name: file_facts(folder / name, report) for name in files},
    )


def prove_here(
    manifest: Manifest,
    folder: Path,
    destination: Path,
    source: Checkpoint,
    held_out: str | Path | None,
    witness: Witness,
    report: Report,
    say: Callable[[str], None],
) -> None:
    """Proves the bundle in ``folder``, which will be ``destination``, with its artifacts for an NPU and a GPU, and writes proofs and audits into its manifest."""
    from firsttoken.prove.prove import prove

    def named(line: str) -> None:
        say(f"{manifest.target.name}: {line}")

    manifest.cpu.proof, manifest.cpu.audit = prove(folder, source, held_out, report=report, witness=witness, say_gain=named)
    manifest.write(folder)
    npu = manifest.npu_artifact
    if npu is not None and find_backend(npu.backend).emulated:  # the lowering's notes say where it is not
        from firsttoken.prove.on_npu import prove_on_npu

        result = prove_on_npu(folder, source, held_out, report=report, say=named)
        npu.proof, npu.audit = result.summary, result.audit
        manifest.write(folder)
    gpu = manifest.gpu_artifact
    if gpu is not None:
        from firsttoken.prove.on_gpu import prove_on_gpu, why_not

        if (why := why_not(destination, manifest, open_decoder(source))) is not None:
            named(f"its GPU artifact, {gpu.file}, was not proven: {why}")
            return
        on_gpu = prove_on_gpu(folder, source, held_out, report=report, say=named, briefly=True, recorded=False)
        gpu.proof, gpu.audit = on_gpu.summary, on_gpu.audit
        manifest.write(folder)


def proof_misses(manifest: Manifest) -> list[str]:
    """Returns every bound that the bundle's proofs missed; empty where they passed or none was made."""
    return [
        f"{'on the NPU: ' if artifact.npu else 'on the software GPU: ' if artifact.gpu else ''}{miss}"
        for artifact in manifest.artifacts
        if artifact.proof is not None
        for miss in artifact.proof.misses
    ]


def package_versions() -> dict[str, str]:
    """Versions of the packages that have a say in what an artifact computes."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def staged(report: Report, name: str) -> Report:
    """Puts the target's name before every stage."""
    return lambda stage, done, total, unit: report(f"{name}: {stage}", done, total, unit)


def no_room(error: OSError, destination: Path) -> FirstTokenError:
    """Turns a failed write into one line."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return FirstTokenError(
            f"output {destination}: the disk is full ({error.strerror}); free some space or choose another place with -o"
        )
    return FirstTokenError(f"output {destination}: {error.strerror or error}{f' ({error.filename})' if error.filename else ''}")
