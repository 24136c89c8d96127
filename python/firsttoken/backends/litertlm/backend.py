"""LiteRT-LM on the CPU: the same kernels as tflite-xnnpack, under LiteRT-LM's signatures and in its container."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from firsttoken.backends.features import STREAMED, WITHOUT_CONVOLUTIONS
from firsttoken.backends.interface import Estimate, LoweringJob
from firsttoken.backends.lowering_result import Lowered
from firsttoken.backends.runner import Runner
from firsttoken.backends.tflite.backend import TfliteXnnpack
from firsttoken.bundle.manifest import Artifact, AuditRow, Manifest
from firsttoken.decoder.parts import Decoder
from firsttoken.precisions import STATIC
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target


class LitertlmCpu(TfliteXnnpack):
    """Runs here with LiteRT's own library, as LiteRT-LM does; the litert-lm package is not needed."""

    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        kind: tuple(one for one in possible if one not in STATIC) for kind, possible in TfliteXnnpack.precisions.items()
    }
    name = "litertlm-cpu"
    checks_drafts = False
    runtime = "litertlm"
    artifact_file = "model.litertlm"
    extra = "litertlm"
    features = WITHOUT_CONVOLUTIONS | STREAMED  # LiteRT-LM binds the KV cache and nothing else
    fixed_lengths = True
    arm_runtimes: ClassVar[tuple[str, ...]] = ()
    app_runtimes: ClassVar[tuple[str, ...]] = ()

    def estimate(self, decoder: Decoder, precisions: Mapping[str, str], target: Target, prove: bool) -> Estimate:
        found = super().estimate(decoder, precisions, target, prove)
        return replace(found, disk=2 * found.disk)  # the graphs, and the container around them

    def lower(self, job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
        from firsttoken.backends.litertlm.lower import lower_decoder

        return lower_decoder(job, path, report)

    def audit(self, path: Path, decoder: Decoder, precisions: Mapping[str, str]) -> list[AuditRow]:
        from firsttoken.backends.litertlm.container import graphs_of
        from firsttoken.backends.litertlm.ops import left_out
        from firsttoken.backends.tflite.audit import audit

        return audit(graphs_of(path), decoder, precisions, absent=left_out(decoder))

    def verify(self, folder: Path, artifact: Artifact) -> None:
        from firsttoken.backends.litertlm.container import graphs_of
        from firsttoken.backends.tflite.verify import verify

        verify(graphs_of(folder / artifact.file), artifact.methods)

    def open_runner(self, folder: Path, manifest: Manifest, artifact: Artifact, threads: int | None = None, kept: bool = True) -> Runner:
        from firsttoken.backends.litertlm.container import graphs_of
        from firsttoken.backends.litertlm.runner import LitertlmRunner

        facts = manifest.facts(artifact)
        packed = (facts.sha256, facts.bytes) if kept else None
        return LitertlmRunner(manifest, graphs_of(folder / artifact.file), artifact.methods, threads, packed)

    def preload(self) -> None:
        import firsttoken.backends.litertlm.runner  # noqa: F401
