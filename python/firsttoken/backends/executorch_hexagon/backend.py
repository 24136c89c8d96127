"""ExecuTorch on Snapdragon's Hexagon NPU, with the user's own QAIRT SDK; and the CPU artifact beside it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from firsttoken.backends.executorch.backend import ExecutorchXnnpack
from firsttoken.backends.hexagon import OnHexagon
from firsttoken.backends.interface import Estimate, LoweringJob
from firsttoken.backends.lowering_result import Lowered
from firsttoken.decoder.parts import Decoder
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target


class ExecutorchHexagon(OnHexagon, ExecutorchXnnpack):
    name = "executorch-hexagon"

    def check_target(self, target: Target) -> None:
        super().check_target(target)
        if target.npu_options.compile != "ahead":
            raise FirstTokenError(
                f'target {target.name!r}: runtime "executorch" compiles for an NPU ahead of time only; '
                f'expected npu.compile = "ahead" and a soc, got {target.npu_options.compile!r}'
            )

    def check_tools(self, target: Target, prove: bool) -> None:
        from firsttoken.backends.executorch_hexagon.sdk import check_tools

        super().check_tools(target, prove)
        check_tools()

    def estimate(self, decoder: Decoder, precisions: Mapping[str, str], target: Target, prove: bool) -> Estimate:
        from firsttoken.backends.tflite_hexagon.cost import compile_cost

        # The weights in PyTorch's modules stay while Qualcomm's compiler, in the same process, works.
        cpu, cost = super().estimate(decoder, precisions, target, prove), compile_cost(decoder, precisions, target)
        return replace(cpu, memory=cpu.memory + cost.memory, disk=cpu.disk + cost.disk, compiling=cost.seconds)

    def lower(self, job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
        from firsttoken.backends.executorch_hexagon.lower import lower_decoder

        return lower_decoder(job, path, report)
