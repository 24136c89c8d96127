"""LiteRT on Snapdragon's Hexagon NPU: graphs compiled ahead of time or by the phone, and the CPU artifact beside them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from firsttoken.backends.interface import Estimate, LoweringJob
from firsttoken.backends.lowering_result import Lowered
from firsttoken.backends.tflite.backend import Tflite
from firsttoken.decoder.parts import Decoder
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target

# Hexagon computes every float in FP16, so FP32 cannot be promised; LiteRT's compiler refuses int4 weights. The embedding
# stays on the host.
PRECISIONS: Mapping[str, tuple[str, ...]] = {"linear": ("fp16", "int8"), "embedding": ("fp32", "fp16", "int8"), "core": ("fp16",)}


class TfliteHexagon(Tflite):
    name = "tflite-hexagon"
    delegate = "NPU"
    precisions = PRECISIONS
    arm_runtimes = ("litert",)  # of the CPU artifact
    emulated = True

    @property
    def takes_layers(self) -> str:
        return "NPU"

    def computed(self, precision: str) -> frozenset[str]:
        return frozenset({"fp16"})  # int8 weights are unpacked as they are used

    def check_target(self, target: Target) -> None:
        check_npu(target)

    def check_tools(self, target: Target, prove: bool) -> None:
        if prove or target.npu_options.compile == "ahead":
            from firsttoken.backends.tflite_hexagon.lower import check_tools

            check_tools()

    def estimate(self, decoder: Decoder, precisions: Mapping[str, str], target: Target, prove: bool) -> Estimate:
        from firsttoken.backends.tflite_hexagon.cost import compile_cost, emulation_cost

        cpu, cost = super().estimate(decoder, precisions, target, prove), compile_cost(decoder, precisions, target)
        emulation = emulation_cost(decoder, precisions, target, []).memory if prove else 0
        return replace(cpu, memory=max(cpu.memory, cost.memory, emulation), disk=cpu.disk + cost.disk, compiling=cost.seconds)

    def lower(self, job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
        from firsttoken.backends.tflite_hexagon.lower import lower_decoder

        return lower_decoder(job, path, report)


def check_npu(target: Target) -> None:
    """Raises `FirstTokenError` for an [npu] that does not fit the rest of the target."""
    options = target.npu_options
    if target.delegate != "xnnpack":
        raise FirstTokenError(
            f"target {target.name!r}: npu needs delegate 'xnnpack', which runs the CPU artifact beside it; got {target.delegate!r}"
        )
    if options.prefill_lengths[-1] >= target.cache_length:
        raise FirstTokenError(
            f"target {target.name!r}: npu.prefill_lengths {list(options.prefill_lengths)} do not fit cache_length {target.cache_length}; "
            "leave out the longest or make the cache longer"
        )
