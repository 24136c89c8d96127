"""One bundle for all three: the CPU's artifact, a Hexagon NPU's and a GPU's, of the same weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from firsttoken.backends.gpu.backend import PRECISIONS, check_lengths, with_gpu
from firsttoken.backends.interface import Estimate, LoweringJob
from firsttoken.backends.lowering_result import Lowered
from firsttoken.backends.tflite_hexagon.backend import TfliteHexagon
from firsttoken.decoder.parts import Decoder
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target


class TfliteHexagonGpu(TfliteHexagon):
    """What both take; each artifact is its own backend's, this one's name is the target's alone."""

    name = "tflite-hexagon-gpu"
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        kind: tuple(one for one in possible if one in PRECISIONS[kind]) for kind, possible in TfliteHexagon.precisions.items()
    }

    def check_target(self, target: Target) -> None:
        super().check_target(target)
        check_lengths(target)

    def estimate(self, decoder: Decoder, precisions: Mapping[str, str], target: Target, prove: bool) -> Estimate:
        return with_gpu(super().estimate(decoder, precisions, target, prove), target)

    def lower(self, job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
        from firsttoken.backends.gpu.lower import lower_beside

        return lower_beside(super().lower(job, path, report), job, path, report)
