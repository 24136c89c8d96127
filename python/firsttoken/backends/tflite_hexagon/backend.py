"""LiteRT on Snapdragon's Hexagon NPU: graphs compiled ahead of time or by the phone, and the CPU artifact beside them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from firsttoken.backends.hexagon import PRECISIONS, OnHexagon
from firsttoken.backends.interface import Estimate, LoweringJob
from firsttoken.backends.lowering_result import Lowered
from firsttoken.backends.tflite.backend import Tflite
from firsttoken.decoder.parts import Decoder
from firsttoken.precisions import PRECISIONS as ALL_PRECISIONS
from firsttoken.precisions import STATIC
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target


class TfliteHexagon(OnHexagon, Tflite):
    name = "tflite-hexagon"
    arm_runtimes = ("litert",)  # of the CPU artifact
    emulated = True
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {**PRECISIONS, "linear": (*PRECISIONS["linear"], "int4", *STATIC)}

    def on_cpu(self, precisions: Mapping[str, str]) -> dict[str, str]:
        """The same weights, with activations rounded as they come: nearer to the checkpoint, and XNNPACK has no kernels for int16."""
        return {layer: ALL_PRECISIONS[precision].weight for layer, precision in precisions.items()}

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
