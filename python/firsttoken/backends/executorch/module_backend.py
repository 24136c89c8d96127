"""Modules for ExecuTorch with XNNPACK."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from firsttoken.backends.module_backend import LoweredModule, ModuleBackend, ModuleJob, ModuleMethod, ModuleRunner
from firsttoken.bundle.manifest import AuditRow
from firsttoken.modules.layers import ModuleLayer
from firsttoken.progress import Report, silent

REASONS = {
    (
        "linear",
        "int8-weight",
    ): "XNNPACK computes a linear layer on INT8 weights and float inputs wrongly; int8 stores as much and is faster",
    ("conv", "int8-weight"): "XNNPACK has no convolution of float inputs with INT8 weights; int8 stores as much and is faster",
    ("depthwise", "int8-weight"): "XNNPACK has no convolution of float inputs with INT8 weights; int8-static stores as much",
    ("depthwise", "int8"): "XNNPACK has no depthwise convolution whose inputs are rounded as they come; int8-static stores as much",
    ("lstm", "int8-weight"): "XNNPACK computes a linear layer on INT8 weights and float inputs wrongly; int8 stores as much and is faster",
}
HALF = "a convolution in FP16 runs outside XNNPACK's quantized kernels and made files no smaller (a ResNet-18: 42.6 of 42.7 MiB); int8 does"


class ExecutorchModules(ModuleBackend):
    """A .pte of a module."""

    name = "executorch-xnnpack"
    artifact_file = "model.pte"
    package = "executorch"
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "linear": ("fp32", "fp16", "int8", "int8-static", "int4"),
        "conv": ("fp32", "int8", "int8-static"),
        "depthwise": ("fp32", "int8-static"),
        "embedding": ("fp32", "fp16", "int8", "int8-weight"),
        "lstm": ("fp32", "int8"),
        "core": ("fp32", "fp16"),
        "other": ("fp32",),
    }

    def why_not(self, layer: ModuleLayer, precision: str) -> str:
        """See `ModuleBackend.why_not`."""
        if precision == "fp16" and layer.kind in ("conv", "depthwise", "lstm"):
            return HALF
        return REASONS.get((layer.kind, precision), "")

    def lower(self, job: ModuleJob, path: Path, report: Report = silent) -> LoweredModule:
        from firsttoken.backends.executorch.module_lower import lower_module

        return lower_module(job, path, report)

    def audit(self, path: Path, lowered: LoweredModule, layers: Sequence[ModuleLayer], precisions: Mapping[str, str]) -> list[AuditRow]:
        from firsttoken.backends.executorch.module_audit import audit_module

        return audit_module(path, lowered, layers, precisions)

    def open(self, path: Path, methods: Sequence[ModuleMethod], threads: int | None = None) -> ModuleRunner:
        from firsttoken.backends.executorch.module_runner import ExecutorchModuleRunner

        return ExecutorchModuleRunner(path, methods, threads)
