"""`ModuleBackend` for LiteRT with XNNPACK."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from firsttoken.backends.module_backend import LoweredModule, ModuleBackend, ModuleJob, ModuleMethod, ModuleRunner
from firsttoken.backends.tflite.modules.audit import audit_module, layer_facts
from firsttoken.backends.tflite.modules.conversion import check_float, convert
from firsttoken.backends.tflite.modules.conversion_errors import MANY_STEPS, recurrent_steps
from firsttoken.backends.tflite.modules.graph_file import GraphFile
from firsttoken.backends.tflite.modules.matching import Match, match
from firsttoken.backends.tflite.modules.quantization import check_quantized, name_operators, quantize
from firsttoken.backends.tflite.modules.ranges import calibrated
from firsttoken.backends.tflite.modules.runner import SignatureRunner
from firsttoken.backends.tflite.modules.signatures import methods_of
from firsttoken.bundle.manifest import AuditRow
from firsttoken.errors import FirstTokenError
from firsttoken.modules.layers import ModuleLayer
from firsttoken.progress import Report, silent

FLOATS = ("fp32", "fp16")
REASONS = {
    (
        "depthwise",
        "int8",
    ): "XNNPACK has no depthwise convolution with ranges found as it runs: 51 times as slow as FP32 (MobileNetV3); ask int8-weight or int8-static",
    ("conv", "int4"): "XNNPACK has no convolution with INT4 weights: 17 times as slow as FP32 (ResNet-18); ask int8",
    ("depthwise", "int4"): "XNNPACK has no depthwise convolution with INT4 weights; ask int8-weight",
    (
        "lstm",
        "int8-static",
    ): "its gates need wider ranges than one scale gives: the file was larger than FP32 and its outputs 0.59 of their size; ask int8",
    ("embedding", "int8-static"): "a table is only looked up in; ask int8",
}
BY_PRECISION = {
    "int16x8": "XNNPACK takes almost nothing with INT16 activations: 14 to 29 times as slow as FP32 (ResNet-18, Whisper's encoder)",
}
BY_KIND = {
    "core": "products of activations stay FP32: INT8 between them ruined ViT and BERT (0.68 and 0.77 of the answers the same) and was slower",
    "other": "this operation has no form with INT8 activations in XNNPACK; ask int8-weight",
}


class TfliteModules(ModuleBackend):
    """A .tflite by litert-torch and litert-quantizer."""

    name: ClassVar[str] = "tflite-xnnpack"
    artifact_file: ClassVar[str] = "model.tflite"
    package: ClassVar[str] = "ai-edge-litert"
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "linear": (*FLOATS, "int8", "int8-weight", "int8-static", "int4"),
        "conv": (*FLOATS, "int8", "int8-weight", "int8-static"),
        "depthwise": (*FLOATS, "int8-weight", "int8-static"),
        "embedding": (*FLOATS, "int8", "int8-weight"),
        "lstm": (*FLOATS, "int8", "int8-weight"),
        "other": (*FLOATS, "int8-weight"),
        "core": ("fp32",),
    }

    def why_not(self, layer: ModuleLayer, precision: str) -> str:
        """See `ModuleBackend.why_not`; the figures are of one x86 machine."""
        return REASONS.get((layer.kind, precision)) or BY_PRECISION.get(precision) or BY_KIND.get(layer.kind, "")

    def lower(self, job: ModuleJob, path: Path, report: Report = silent) -> LoweredModule:
        """See `ModuleBackend.lower`. Nothing is written before all of it is known to be right."""
        for layer in job.layers:
            self._check_precision(layer, job.precisions[layer.name])
        file, sizes = convert(job.module, report)
        with tempfile.TemporaryDirectory() as folder:
            check_float(file, sizes, job.module, Path(folder))
        return self.lower_converted(job, file, sizes, path, report)

    def lower_converted(
        self, job: ModuleJob, file: GraphFile, sizes: Mapping[str, Mapping[str, int]], path: Path, report: Report = silent
    ) -> LoweredModule:
        """The same of a float file that is there, with the sizes of its signatures."""
        program = job.module.program
        state = {**program.state_dict, **{name: value for name, value in program.constants.items() if hasattr(value, "dim")}}
        found = match(file, job.layers, state, job.precisions)
        names = name_operators(file, found)
        file = GraphFile.parse(file.packed(), "the converted file")  # of one place in memory, and whole
        ranges, glue = calibrated(file, sizes, job, found, report)
        quantized = quantize(file, found, job.precisions, ranges, glue, report)
        check_quantized(file, quantized, found, names, job.precisions)
        methods = methods_of(quantized, sizes, job.module)
        facts = layer_facts(quantized, job.layers, found, names)
        quantized.write(path)
        return LoweredModule(methods, facts, self._notes(job, sizes, found, methods))

    def _check_precision(self, layer: ModuleLayer, precision: str) -> None:
        if precision not in self.precisions[layer.kind]:
            reason = self.why_not(layer, precision)
            raise FirstTokenError(
                f"{layer.name}: {precision} was asked of a layer of kind {layer.kind}, which can be {', '.join(self.precisions[layer.kind])} in a .tflite"
                + (f"; {reason}" if reason else "")
            )

    @staticmethod
    def _notes(
        job: ModuleJob, sizes: Mapping[str, Mapping[str, int]], found: Sequence[Match], methods: Sequence[ModuleMethod]
    ) -> tuple[str, ...]:
        notes = []
        for given, tensor in zip(job.module.inputs, methods[0].inputs, strict=True):
            if given.dtype != tensor.dtype:
                notes.append(f"input {given.name} is {given.dtype} in the module and {tensor.dtype} in the file")
        there = {one.layer for one in found}
        for layer in job.layers:
            if layer.kind == "embedding" and layer.name not in there:
                notes.append(f"{layer.name} is looked up at fixed places: the file has those rows as FP32 constants")
        for name in dict.fromkeys(one.parameter for one in found if not one.layer):
            notes.append(f"{name} is multiplied with by an operation that no plan names; it stays FP32")
        steps = max(recurrent_steps(job.module, one) for one in sizes.values())
        if steps > MANY_STEPS:
            notes.append(
                f"a recurrent layer is unrolled to {steps} steps; a module of one step, called in a loop, makes a file that loads sooner"
            )
        return tuple(notes)

    def audit(self, path: Path, lowered: LoweredModule, layers: Sequence[ModuleLayer], precisions: Mapping[str, str]) -> list[AuditRow]:
        """See `ModuleBackend.audit`."""
        return audit_module(path, lowered.layers, layers, precisions)

    def open(self, path: Path, methods: Sequence[ModuleMethod], threads: int | None = None) -> ModuleRunner:
        """See `ModuleBackend.open`."""
        return SignatureRunner(path, methods, threads)
