"""How much memory and disk an export will take, before it starts.

The constants were measured on the demo checkpoint and on generated checkpoints of the Qwen2.5-0.5B and 1.5B shapes;
they err upwards, since a refusal costs a second and a killed process costs the work.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import Layer, parameter_count, plan_layers, states
from firsttoken.errors import FirstTokenError
from firsttoken.machine import MARGIN, available_disk, available_memory
from firsttoken.prove.windows import budget
from firsttoken.targets.target import Target
from firsttoken.units import lasting, readable

MIB = 1 << 20
BITS_STORED = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4}
SCALE_BYTES = 12  # a row's float32 scale and int64 zero point, as TFLite's header holds them; others need less
# .tflite: the interpreter, numpy and row blocks, and the header held twice, once for each of three graphs.
TFLITE_BASE = 150 * MIB
TFLITE_HEADER_COPIES = 6
# .pte: torch, torchao and executorch loaded; then the quantized weights in the module or program and in XNNPACK's
# payloads (measured: 2.0 copies for the 0.5B shape).
EXECUTORCH_BASE = 800 * MIB
EXECUTORCH_WEIGHT_COPIES = 2.5
# Proof: torch and the runtime; the loaded file with its packed copy, one layer in FP32, and the reference's logits.
PROOF_BASE = 450 * MIB
PROOF_WEIGHT_COPIES = 2.0
LARGEST_TENSORS = 3  # of a layer, in FP32 at once


@dataclass(frozen=True)
class Estimate:
    """Peak memory (resident) and disk in bytes; ``compiling`` are the seconds that compiling for an NPU takes."""

    memory: int
    disk: int
    compiling: float = 0.0

    def __str__(self):
        return f"about {readable(self.memory)} of memory and {readable(self.disk)} of disk"


def stored_bytes(layers: list[Layer], precisions: dict[str, str], target: Target) -> tuple[int, int]:
    """Returns the bytes of all stored weights and of their scales. A tied head shares the embedding's bytes in .tflite only."""
    weights = scales = 0
    seen = set()
    for layer in layers:
        if layer.weight is None:
            continue
        precision = precisions[layer.name]
        if target.runtime == "tflite" and (layer.weight, precision) in seen:
            continue
        seen.add((layer.weight, precision))
        weights += math.prod(layer.shape) * BITS_STORED[precision] // 8
        scales += layer.shape[0] * SCALE_BYTES if precision in ("int8", "int4") else 0
        if precision == "int4":
            weights += math.prod(layer.shape) // 32 * 4
    return weights, scales


def estimate(decoder: Decoder, precisions: dict[str, str], target: Target, prove: bool) -> Estimate:
    """Estimates what one export (and its proof, which comes after it) will take."""
    layers = plan_layers(decoder)
    weights, scales = stored_bytes(layers, precisions, target)
    if target.runtime == "tflite":
        memory = TFLITE_BASE + TFLITE_HEADER_COPIES * scales
    else:
        memory = EXECUTORCH_BASE + int(EXECUTORCH_WEIGHT_COPIES * weights)
    if prove:
        largest = max(math.prod(layer.shape) for layer in layers if layer.weight and layer.kind == "linear" and layer.name != "head")
        logits = budget(decoder)[1] * decoder.vocab_size * 4
        cache = sum(4 * 2 * target.cache_length * state.kv_heads * state.head_dim for state in states(decoder))
        memory = max(memory, PROOF_BASE + int(PROOF_WEIGHT_COPIES * weights) + LARGEST_TENSORS * 4 * largest + logits + cache)
    disk = weights + 3 * scales + 4 * MIB
    if target.npu is None:
        return Estimate(memory, disk)
    from firsttoken.backends.tflite_hexagon.cost import compile_cost, emulation_cost

    cost = compile_cost(decoder, precisions, target)
    if target.runtime == "executorch":  # the weights in PyTorch's modules stay while Qualcomm's compiler, in the same process, works
        return Estimate(memory + cost.memory, disk + cost.disk, cost.seconds)
    emulation = emulation_cost(decoder, precisions, target, []).memory if prove else 0
    return Estimate(max(memory, cost.memory, emulation), disk + cost.disk, cost.seconds)


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
