"""LiteRT-LM on a GPU: LiteRT's GPU accelerator, which phones run as OpenCL and this machine on a software Vulkan.

The same file runs on the CPU too, which is what an app falls back to, and what `generate` and `bench` here run; `firsttoken prove --on gpu` runs the GPU.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from firsttoken.backends.features import WITHOUT_CONVOLUTIONS
from firsttoken.backends.interface import Backend, LoweringJob
from firsttoken.backends.litertlm.backend import LitertlmCpu
from firsttoken.backends.lowering_result import Lowered
from firsttoken.backends.runner import Runner
from firsttoken.bundle.manifest import Artifact, AuditRow, Manifest
from firsttoken.decoder.parts import Decoder
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target


class LitertlmGpu(LitertlmCpu):
    """FP16 is storage; the GPU's tensors are FP32, and it does not round what meets integer weights."""

    name = "litertlm-gpu"
    delegate = "gpu"
    native_fp16 = False
    cache_precision = "fp32"
    outliers_apart = False  # it rounds no input
    group_scales = False  # int4 in groups ends the accelerator's process
    features = WITHOUT_CONVOLUTIONS
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "linear": ("fp32", "fp16", "int8", "int4"),
        "embedding": ("fp32", "int8"),  # a table in FP16 stays on the CPU
        "core": ("fp32", "fp16"),
    }

    def check_target(self, target: Target) -> None:
        super().check_target(target)
        if target.prefill_lengths is None:
            raise FirstTokenError(
                f"target {target.name!r}: a GPU takes fixed lengths; give prefill_lengths, as export/litertlm-gpu.toml does"
            )

    def lower(self, job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
        from firsttoken.backends.gpu.ops import GpuOps
        from firsttoken.backends.litertlm.lower import lower_decoder

        return lower_decoder(job, path, report, GpuOps, None)

    def audit(self, path: Path, decoder: Decoder, precisions: Mapping[str, str]) -> list[AuditRow]:
        from firsttoken.backends.gpu.rules import check_model, wrong_in
        from firsttoken.backends.litertlm.container import graphs_of
        from firsttoken.backends.litertlm.ops import left_out
        from firsttoken.backends.tflite.audit import audit, read_header

        graphs = graphs_of(path)
        check_model(read_header(graphs)[0], str(path))
        return audit(graphs, decoder, precisions, absent=left_out(decoder), left=wrong_in)

    def on_gpu(self) -> Backend:
        return OnGpu()


class OnGpu(LitertlmGpu):
    """The artifact on the GPU itself: integer weights meet activations that were not rounded."""

    def activations(self, precision: str) -> str:
        return "fp32"

    def open_runner(self, folder: Path, manifest: Manifest, artifact: Artifact, threads: int | None = None, kept: bool = True) -> Runner:
        from firsttoken.backends.gpu.runner import GpuRunner

        return GpuRunner(folder, manifest, artifact)
