"""ExecuTorch on the CPU with XNNPACK."""

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
from firsttoken.errors import FirstTokenError
from firsttoken.precisions import WeightGrid
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target

if TYPE_CHECKING:
    from torch import nn

MIB = 1 << 20
# torch, torchao and executorch loaded; then the quantized weights in the module or program and in XNNPACK's payloads
# (measured: 2.0 copies for the 0.5B shape).
BASE_BYTES, WEIGHT_COPIES = 800 * MIB, 2.5
PROGRAM_DISK = 4 * MIB
METHOD, INPUTS = "forward", ["tokens", "cache_position"]


class ExecutorchXnnpack(Backend):
    name = "executorch-xnnpack"
    runtime = "executorch"
    delegate = "xnnpack"
    artifact_file = "model.pte"
    package = "executorch"
    runtime_memory = 700 << 20
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "linear": ("fp32", "fp16", "int8", "int4"),
        "embedding": ("fp32", "fp16", "int8", "int4"),
        "core": ("fp32", "fp16"),
    }
    features = ALL | STREAMED | RECURRENT | CHOOSING
    weight_grid = WeightGrid(int8=127.5, int4=7.5, lowest=True)  # torchao's, which uses the lowest integer too
    extra = "executorch"
    outliers_apart = True
    outliers_bytes = 2092
    row_scale_bytes = 4
    checks_drafts = True
    arm_runtimes = ("executorch",)
    app_runtimes = ("ExecuTorch",)

    def estimate(self, decoder: Decoder, precisions: Mapping[str, str], target: Target, prove: bool) -> Estimate:
        weights, scales = stored_bytes(plan_layers(decoder), precisions, shares_tied=False)
        return Estimate(BASE_BYTES + int(WEIGHT_COPIES * weights), weights + 3 * scales + PROGRAM_DISK)

    def lower(self, job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
        from firsttoken.backends.executorch.lower import lower_decoder

        return lower_decoder(job, path, report)

    def audit(self, path: Path, decoder: Decoder, precisions: Mapping[str, str]) -> list[AuditRow]:
        from firsttoken.backends.executorch.audit import audit

        return audit(path, decoder, precisions)

    def verify(self, folder: Path, artifact: Artifact) -> None:
        """Raises `FirstTokenError` for an artifact of another form than the runtime is given here; damage it finds itself."""
        for method in artifact.methods:
            given = [tensor.name for tensor in method.inputs]
            if method.name == METHOD and given != INPUTS:
                raise FirstTokenError(
                    f"{folder / artifact.file}: {METHOD} takes {', '.join(given) or 'nothing'}, expected {', '.join(INPUTS)}; "
                    "it was written by an older firsttoken, export it again"
                )

    def open_runner(self, folder: Path, manifest: Manifest, artifact: Artifact, threads: int | None = None, kept: bool = True) -> Runner:
        from firsttoken.backends.executorch.runner import ExecutorchRunner

        return ExecutorchRunner(folder / artifact.file, manifest, threads, weight_cache=kept)

    def cache_refused(self) -> str | None:
        from firsttoken.backends.executorch.native_build import native_library

        library, why = native_library()
        return None if library else f"ExecuTorch's C++ runtime cannot be used ({why}), and its Python bindings keep the cache to themselves"

    def preload(self) -> None:
        from firsttoken.backends.executorch.native_build import native_library
        from firsttoken.backends.executorch.runner import import_runtime

        if native_library()[0] is None:
            import_runtime()

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
        from firsttoken.backends.executorch.one_layer import one_layer

        return one_layer(checkpoint, layer, precision, group_size, tokens, path, threads, apart)

    def weight_rounding(self, precision: str, kind: str, group: int) -> "nn.Module | None":
        if precision != "int4" or kind != "linear":
            return None
        from firsttoken.backends.executorch.rounding import XnnpackInt4Rounding

        return XnnpackInt4Rounding(group)
