"""LiteRT's GPU accelerator, which phones run as OpenCL and this machine on a software Vulkan: as LiteRT-LM's file, or beside a CPU artifact.

`generate` and `bench` run the CPU, which is what an app falls back to; `firsttoken prove --on gpu` runs the GPU.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from firsttoken.backends.features import WITHOUT_CONVOLUTIONS
from firsttoken.backends.interface import Backend, Estimate, LoweringJob
from firsttoken.backends.litertlm.backend import LitertlmCpu
from firsttoken.backends.lowering_result import Lowered
from firsttoken.backends.runner import Runner
from firsttoken.backends.tflite.backend import Tflite
from firsttoken.bundle.manifest import Artifact, AuditRow, Manifest
from firsttoken.decoder.parts import Decoder
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target

PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "linear": ("fp32", "fp16", "int8", "int4"),
    "embedding": ("fp32", "int8"),  # a table in FP16 stays on the CPU
    "core": ("fp32", "fp16"),
}
TABLES = 8 << 20  # bytes on disk at most: graphs, and cos and sin of every row


class ForGpu(Backend):
    """What is true of every layer for the GPU; stands before the CPU's backend among the bases.

    FP16 is storage; the GPU's tensors are FP32, and it does not round what meets integer weights.
    """

    delegate = "gpu"
    native_fp16 = False
    cache_precision = "fp32"
    outliers_apart = False  # it rounds no input
    group_scales = False  # int4 in groups ends the accelerator's process
    features = WITHOUT_CONVOLUTIONS
    precisions = PRECISIONS

    def audit(self, path: Path, decoder: Decoder, precisions: Mapping[str, str]) -> list[AuditRow]:
        from firsttoken.backends.gpu.rules import check_model, wrong_in
        from firsttoken.backends.litertlm.container import graphs_in
        from firsttoken.backends.litertlm.ops import left_out
        from firsttoken.backends.tflite.audit import audit, read_header

        graphs = graphs_in(path)
        check_model(read_header(graphs)[0], str(path))
        return audit(graphs, decoder, precisions, absent=left_out(decoder), left=wrong_in)


class OnGpu(ForGpu):
    """The artifact on the GPU itself: integer weights meet activations that were not rounded."""

    def activations(self, precision: str) -> str:
        return "fp32"

    def computed(self, precision: str) -> frozenset[str]:
        return frozenset({"fp32"})

    def audit(self, path: Path, decoder: Decoder, precisions: Mapping[str, str]) -> list[AuditRow]:
        return [row.model_copy(update={"computed": "fp32"}) for row in super().audit(path, decoder, precisions)]

    def open_runner(self, folder: Path, manifest: Manifest, artifact: Artifact, threads: int | None = None, kept: bool = True) -> Runner:
        from firsttoken.backends.gpu.runner import GpuRunner

        return GpuRunner(folder, manifest, artifact)


class LitertlmGpu(ForGpu, LitertlmCpu):
    name = "litertlm-gpu"

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

    def on_gpu(self) -> Backend:
        return LitertlmOnGpu()


class LitertlmOnGpu(OnGpu, LitertlmGpu):
    pass


class TfliteGpu(ForGpu, Tflite):
    """The CPU artifact of tflite-xnnpack, and the same weights for a GPU in a .tflite beside it."""

    name = "tflite-gpu"
    arm_runtimes: ClassVar[tuple[str, ...]] = ("litert",)  # of the CPU artifact

    def check_target(self, target: Target) -> None:
        if target.npu is not None or target.prefill_lengths is not None or target.gpu is None or target.delegate != "xnnpack":
            raise FirstTokenError(
                f"target {target.name!r}: {self.name} is delegate 'xnnpack', which runs the CPU artifact, and [gpu] with prefill_lengths beside it, "
                f"as in export/tflite-gpu.toml; got delegate {target.delegate!r}{'' if target.gpu else ' and no [gpu]'}"
            )
        check_lengths(target)

    def estimate(self, decoder: Decoder, precisions: Mapping[str, str], target: Target, prove: bool) -> Estimate:
        return with_gpu(super().estimate(decoder, precisions, target, prove), target)

    def lower(self, job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
        from firsttoken.backends.gpu.lower import lower_beside
        from firsttoken.backends.tflite.lower import lower_decoder

        cpu = job.target.model_copy(update={"name": job.target.cpu_backend, "gpu": None})  # the same file as tflite-xnnpack's
        return lower_beside(lower_decoder(replace(job, target=cpu), path, report), job, path, report)

    def on_gpu(self) -> Backend:
        return TfliteOnGpu()


class TfliteOnGpu(OnGpu, TfliteGpu):
    pass


def check_lengths(target: Target) -> None:
    """Raises `FirstTokenError` for prefill graphs of [gpu] that the cache does not hold."""
    lengths = target.gpu_options.prefill_lengths
    if lengths[-1] >= target.cache_length:
        raise FirstTokenError(
            f"target {target.name!r}: gpu.prefill_lengths {list(lengths)} do not fit cache_length {target.cache_length}; "
            "leave out the longest or make the cache longer"
        )


def with_gpu(other: Estimate, target: Target) -> Estimate:
    """What it takes to write a GPU's artifact after the others: graphs, scales and tables, or as much of the disk as the CPU's where it holds its own
    weights. Its proof says itself what it takes."""
    return replace(other, disk=other.disk + (other.disk // 10 + TABLES if target.gpu_options.share_weights else other.disk))
