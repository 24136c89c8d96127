"""What is lowered, for tests that call a lowering itself."""

from dataclasses import replace

from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.registry import resolve
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


def with_config(checkpoint: Checkpoint, **changes):
    """The decoder of a checkpoint's ``config.json`` with other values."""
    return describe({**checkpoint.config, **changes})


def with_precisions(job: LoweringJob, **changed: str) -> LoweringJob:
    """The job with other precisions for some layers, whose names have ``__`` for dots."""
    return replace(job, precisions={**job.precisions, **{name.replace("__", "."): precision for name, precision in changed.items()}})
