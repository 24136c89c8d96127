"""How much memory and disk an export will take, before it starts.

The constants were measured on the demo checkpoint and on generated checkpoints of the Qwen2.5-0.5B and 1.5B shapes;
they err upwards, since a refusal costs a second and a killed process costs the work.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from firsttoken.backends.interface import Estimate
from firsttoken.backends.registry import backend_of
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import parameter_count
from firsttoken.errors import FirstTokenError
from firsttoken.machine import MARGIN, available_disk, available_memory
from firsttoken.prove.cost import proof_memory
from firsttoken.targets.target import Target
from firsttoken.units import lasting, readable


def estimate(decoder: Decoder, precisions: Mapping[str, str], target: Target, prove: bool) -> Estimate:
    """Estimates what one export (and its proof, which comes after it) will take."""
    lowering = backend_of(target).estimate(decoder, precisions, target, prove)
    if not prove:
        return lowering
    return replace(lowering, memory=max(lowering.memory, proof_memory(decoder, precisions, target.cache_length)))


def check_room(needed: dict[str, Estimate], destination: Path, checkpoint: str, decoder: Decoder) -> str:
    """Returns a line that says what the work will take. Raises `FirstTokenError` if it cannot fit.

    Bundles are made one after the other, so memory is the largest one's and disk is the sum.
    """
    memory, disk = max(e.memory for e in needed.values()), sum(e.disk for e in needed.values())
    free_memory, free_disk = available_memory(), available_disk(destination)
    if memory > free_memory * (1 - MARGIN):
        hungriest = max(needed, key=lambda name: needed[name].memory)
        raise FirstTokenError(
            f"target {hungriest!r} needs about {readable(memory)} of memory, {readable(free_memory)} are available; "
            "close other programs, choose a plan with smaller weights, or use a larger machine"
        )
    if disk > free_disk:
        raise FirstTokenError(
            f"output {destination}: needs about {readable(disk)} of disk, {readable(free_disk)} are free; choose another place with -o"
        )
    compiling = sum(e.compiling for e in needed.values())
    return (
        f"{checkpoint}: {decoder.family}, {parameter_count(decoder) / 1e6:.1f} M weights; will take about {readable(memory)} of {readable(free_memory)} memory "
        f"and {readable(disk)} of {readable(free_disk)} disk{f'; compiling for the NPU about {lasting(compiling)}' if compiling else ''}"
    )
