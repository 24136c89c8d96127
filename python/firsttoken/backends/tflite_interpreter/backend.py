"""The public Interpreter API (Java, Kotlin, Swift, Python) of every TensorFlow Lite since 2.16: it knows no FP16 tensors and no run-time shapes with buffers.

The signatures are LiteRT-LM's with fixed lengths: what a call returns as ``kv_cache_*`` is the next call's input of that name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from firsttoken.backends.features import STREAMED, WITHOUT_CONVOLUTIONS
from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.lowering_result import Lowered
from firsttoken.backends.runner import Runner
from firsttoken.backends.tflite.backend import TfliteCompatible
from firsttoken.bundle.manifest import Artifact, AuditRow, Manifest
from firsttoken.decoder.parts import Decoder
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target


class TfliteInterpreter(TfliteCompatible):
    name = "tflite-interpreter"
    checks_drafts = False
    fixed_lengths = True
    cache_precision = "fp32"
    features = WITHOUT_CONVOLUTIONS | STREAMED  # a padded call of LiteRT-LM's form does not say which token is the last
    arm_runtimes: ClassVar[tuple[str, ...]] = ()
    app_runtimes: ClassVar[tuple[str, ...]] = ()  # its calls write the cache themselves, which the app does not follow

    def check_target(self, target: Target) -> None:
        super().check_target(target)
        if target.prefill_lengths is None:
            raise FirstTokenError(
                f"target {target.name!r}: {self.name} has fixed lengths; give prefill_lengths, as export/tflite-interpreter.toml does"
            )

    def lower(self, job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
        from firsttoken.backends.litertlm.lower import describe_graphs

        file, artifact = describe_graphs(job)
        file.write(path, report)
        return Lowered([artifact])

    def audit(self, path: Path, decoder: Decoder, precisions: Mapping[str, str]) -> list[AuditRow]:
        from firsttoken.backends.litertlm.ops import left_out
        from firsttoken.backends.tflite.audit import audit

        return audit(path, decoder, precisions, absent=left_out(decoder))

    def open_runner(self, folder: Path, manifest: Manifest, artifact: Artifact, threads: int | None = None, kept: bool = True) -> Runner:
        from firsttoken.backends.litertlm.runner import LitertlmRunner
        from firsttoken.backends.tflite.section import section_of

        facts = manifest.facts(artifact)
        packed = (facts.sha256, facts.bytes) if kept else None
        return LitertlmRunner(manifest, section_of(folder / artifact.file), artifact.methods, threads, packed)

    def preload(self) -> None:
        import firsttoken.backends.litertlm.runner  # noqa: F401
