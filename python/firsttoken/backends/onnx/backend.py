"""onnxruntime on the CPU."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from firsttoken.backends.features import ALL, CHOOSING, RECURRENT, STREAMED
from firsttoken.backends.interface import Backend, Estimate, LoweringJob
from firsttoken.backends.lowering_result import Lowered
from firsttoken.backends.onnx.quantize import block_of
from firsttoken.backends.runner import Runner
from firsttoken.backends.stored import stored_bytes
from firsttoken.bundle.manifest import Artifact, AuditRow, Manifest
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import plan_layers, states
from firsttoken.errors import FirstTokenError
from firsttoken.precisions import WeightGrid
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target

if TYPE_CHECKING:
    from torch import nn

MIB = 1 << 20
BASE_BYTES, GRAPH_DISK = 200 * MIB, 4 * MIB
HEAD_MULTIPLE = 8  # of GroupQueryAttention's kernel
BLOCK_SCALE_SHARE = 8  # a float32 for 32 columns, in parts of a byte each


class OnnxCpu(Backend):
    """INT8 and INT4 are computed in INT8, block by block; FP16 is how weights and cache are stored, computed in FP32."""

    name = "onnx-cpu"
    runtime = "onnx"
    delegate = None
    artifact_file = "model.onnx"
    package = "onnxruntime"
    extra = "onnx"
    features = ALL | STREAMED | RECURRENT | CHOOSING
    native_fp16 = False
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "linear": ("fp32", "fp16", "int8", "int4"),
        "embedding": ("fp32", "fp16", "int8", "int4"),
        "core": ("fp32", "fp16"),
    }
    weight_grid = WeightGrid(float_blocks=True)
    shares_tied = True
    row_scale_bytes = 0
    group_scale_bytes = 4

    def computed(self, precision: str) -> frozenset[str]:
        return frozenset({"fp32"}) if precision in ("fp32", "fp16") else frozenset({"int8"})

    def activations(self, precision: str) -> str:
        kind = super().activations(precision)
        return "int8-float-blocks" if kind == "int8" else kind

    def cache_refused(self) -> str | None:
        return None

    def check_model(self, decoder: Decoder, target: Target) -> None:
        super().check_model(decoder, target)
        for state in states(decoder):
            if state.head_dim % HEAD_MULTIPLE:
                raise FirstTokenError(
                    f"target {target.name!r}: {self.name} takes heads of a multiple of {HEAD_MULTIPLE} values, and {state.name} has {state.head_dim}; use a target like tflite-xnnpack"
                )

    def estimate(self, decoder: Decoder, precisions: Mapping[str, str], target: Target, prove: bool) -> Estimate:
        weights, _ = stored_bytes(plan_layers(decoder), precisions, shares_tied=True)
        weights += weights // BLOCK_SCALE_SHARE
        return Estimate(BASE_BYTES + 2 * weights, weights + GRAPH_DISK)

    def lower(self, job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
        from firsttoken.backends.onnx.lower import lower_decoder

        return lower_decoder(job, path, report)

    def audit(self, path: Path, decoder: Decoder, precisions: Mapping[str, str]) -> list[AuditRow]:
        from firsttoken.backends.onnx.audit import audit

        return audit(path, decoder, precisions)

    def verify(self, folder: Path, artifact: Artifact) -> None:
        from firsttoken.backends.onnx.verify import verify

        verify(folder / artifact.file, artifact.methods)

    def open_runner(self, folder: Path, manifest: Manifest, artifact: Artifact, threads: int | None = None, kept: bool = True) -> Runner:
        from firsttoken.backends.onnx.runner import OnnxRunner

        self.check_installed("an .onnx bundle")
        return OnnxRunner(folder / artifact.file, manifest, artifact, threads)

    def preload(self) -> None:
        import onnxruntime  # noqa: F401

        import firsttoken.backends.onnx.runner  # noqa: F401

    def weight_rounding(self, precision: str, kind: str, group: int) -> "nn.Module":
        from firsttoken.backends.onnx.rounding import BlockRounding

        return BlockRounding(precision, group)

    def activation_rounding(self, precision: str, group: int, columns: int) -> "nn.Module":
        from firsttoken.backends.onnx.rounding import StatesRounding

        return StatesRounding(block_of(precision, group, columns))
