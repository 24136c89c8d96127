"""What is lowered, for tests that call a lowering itself."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.registry import find_backend, resolve
from firsttoken.bundle.manifest import Artifact, CheckpointIdentity, Manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.families import describe
from firsttoken.decoder.walk import open_decoder
from firsttoken.quant.plan import Plan, load_plan
from firsttoken.targets.target import Target, load_target


def lowering_job(checkpoint: Checkpoint, plan: str | Plan, target: str | Target, **lengths) -> LoweringJob:
    """A plan and a target, by name or as they are, for a checkpoint."""
    plan = load_plan(plan) if isinstance(plan, str) else plan
    target = load_target(target, **lengths) if isinstance(target, str) else target
    decoder = open_decoder(checkpoint)
    return LoweringJob(checkpoint, decoder, plan, target, resolve(plan, decoder, target))


def lowered_artifact(
    folder: Path, path: Path, plan: str, target: str, ends: Sequence[int] = (), **lengths
) -> tuple[LoweringJob, Manifest, Artifact]:
    """Lowers a checkpoint folder into ``path``; the manifest holds what a runner asks of it, and no more."""
    with Checkpoint(folder) as source:
        job = replace(lowering_job(source, plan, target, **lengths), ends=ends)
        backend = find_backend(job.target.cpu_backend)
        [artifact] = backend.lower(job, path / backend.artifact_file).artifacts
    identity = CheckpointIdentity.model_construct(vocab_size=job.decoder.vocab_size)
    return job, Manifest.model_construct(plan=job.plan, target=job.target, checkpoint=identity, artifacts=[artifact]), artifact


def with_config(checkpoint: Checkpoint, **changes):
    """The decoder of a checkpoint's ``config.json`` with other values."""
    return describe({**checkpoint.config, **changes})


def with_precisions(job: LoweringJob, **changed: str) -> LoweringJob:
    """The job with other precisions for some layers, whose names have ``__`` for dots."""
    return replace(job, precisions={**job.precisions, **{name.replace("__", "."): precision for name, precision in changed.items()}})
