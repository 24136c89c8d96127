"""LiteRT and TensorFlow Lite on the CPU: with XNNPACK, or in the form that every release since 2.16 runs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from firsttoken.backends.features import ALL, CHOOSING, RECURRENT, STREAMED
from firsttoken.backends.interface import Backend, Estimate, LoweringJob
from firsttoken.backends.lowering_result import Lowered
from firsttoken.backends.runner import Runner
from firsttoken.backends.stored import stored_bytes
from firsttoken.bundle.manifest import Artifact, AuditRow, Manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import Layer, plan_layers
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target

if TYPE_CHECKING:
    from torch import nn

MIB = 1 << 20
# Measured: the interpreter, numpy and row blocks, and the header held twice, once for each graph.
BASE_BYTES, HEADER_COPIES = 150 * MIB, 2
HEADER_DISK = 4 * MIB


class Tflite(Backend):
    """What both forms share."""

    runtime = "tflite"
    artifact_file = "model.tflite"
    package = "ai-edge-litert"
    features = ALL
    app_runtimes: ClassVar[tuple[str, ...]] = ("LiteRT",)
    row_scale_bytes = 4  # a float32; zero points and all graphs share one place
    shares_tied = True
    outliers_apart = True
    outliers_bytes = 2933  # a few operators in each of three graphs

    def estimate(self, decoder: Decoder, precisions: Mapping[str, str], target: Target, prove: bool) -> Estimate:
        weights, scales = stored_bytes(plan_layers(decoder), precisions, shares_tied=True)
        graphs = 3 if target.draft_tokens is None else 4
        return Estimate(BASE_BYTES + HEADER_COPIES * graphs * scales, weights + graphs * scales + HEADER_DISK)

    def cache_refused(self) -> str | None:
        return None

    def lower(self, job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
        from firsttoken.backends.tflite.lower import lower_decoder

        return lower_decoder(job, path, report)

    def audit(self, path: Path, decoder: Decoder, precisions: Mapping[str, str]) -> list[AuditRow]:
        from firsttoken.backends.tflite.audit import audit

        return audit(path, decoder, precisions)

    def verify(self, folder: Path, artifact: Artifact) -> None:
        from firsttoken.backends.tflite.verify import verify

        verify(folder / artifact.file, artifact.methods)

    def open_runner(self, folder: Path, manifest: Manifest, artifact: Artifact, threads: int | None = None, kept: bool = True) -> Runner:
        if manifest.packed is not None:
            from firsttoken.backends.tflite.shipped import open_shipped

            return open_shipped(folder, manifest, manifest.packed, artifact, threads, kept)
        from firsttoken.backends.tflite.runner import TfliteRunner

        return TfliteRunner(folder / artifact.file, manifest, threads, weight_cache=kept)

    def open_packed(self, folder: Path, manifest: Manifest, packed: Path, read_only: bool, threads: int | None = None) -> Runner:
        from firsttoken.backends.tflite.litert import ReadOnly
        from firsttoken.backends.tflite.runner import TfliteRunner

        return TfliteRunner(folder / manifest.cpu.file, manifest, threads, ReadOnly(packed) if read_only else packed)

    def packed_for(self, folder: Path, manifest: Manifest, isa: str, runtime: str) -> tuple[Path | None, str]:
        from firsttoken.backends.tflite.shipped import usable

        if manifest.packed is None:
            return None, "it has none"
        found, why = usable(folder, manifest, manifest.packed, isa, manifest.cpu, runtime)
        return None if found is None else folder / found.file, why

    def write_without_weights(self, source: Path, destination: Path) -> int:
        from firsttoken.backends.tflite.without_weights import write_without_weights

        return write_without_weights(source, destination)

    def kept_files(self, manifest: Manifest, artifact: Artifact) -> list[Path]:
        from firsttoken.backends.tflite.weight_cache import packed_file, writable_folder

        folder = writable_folder()
        packed = folder and packed_file(folder, manifest.facts(artifact).sha256)
        return [packed] if packed and packed.exists() else []

    def preload(self) -> None:
        import firsttoken.backends.tflite.runner  # noqa: F401

    def one_layer(
        self,
        checkpoint: Checkpoint,
        layer: Layer,
        precision: str,
        group_size: int,
        tokens: int,
        path: Path,
        threads: int,
        apart: bool = False,
    ) -> Callable[[], np.ndarray]:
        from firsttoken.backends.tflite.one_layer import one_layer

        return one_layer(checkpoint, layer, precision, group_size, tokens, self.native_fp16, path, threads, apart)

    def weight_rounding(self, precision: str, kind: str, group: int) -> "nn.Module":
        from firsttoken.backends.tflite.rounding import TfliteRounding

        return TfliteRounding(precision, group)


class TfliteXnnpack(Tflite):
    name = "tflite-xnnpack"
    packs_weights = True
    checks_drafts = True
    features = ALL | STREAMED | RECURRENT | CHOOSING
    delegate = "xnnpack"
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "linear": ("fp32", "fp16", "int8", "int4", "int8-static"),
        "embedding": ("fp32", "fp16", "int8"),
        "core": ("fp32", "fp16"),
    }
    arm_runtimes: ClassVar[tuple[str, ...]] = ("litert",)


class TfliteCompatible(Tflite):
    """FP16 is storage, dequantized to FP32; whatever delegate the runtime applies by itself."""

    name = "tflite-none"
    checks_drafts = True
    features = ALL | STREAMED | RECURRENT | CHOOSING
    delegate = None
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "linear": ("fp32", "fp16", "int8"),
        "embedding": ("fp32", "fp16", "int8"),
        "core": ("fp32", "fp16"),
    }
    native_fp16 = False
    arm_runtimes: ClassVar[tuple[str, ...]] = ("litert", "tflite-2.16")  # the oldest that it promises
    app_runtimes: ClassVar[tuple[str, ...]] = ("TensorFlow Lite", "LiteRT")
