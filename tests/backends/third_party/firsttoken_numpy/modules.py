"""Modules for NumPy: weights as arrays of an .npz, in floats or as INT8 rows with a scale each, put back into the program to run it."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from firsttoken.backends.module_backend import ArtifactTensor, LoweredModule, ModuleBackend, ModuleJob, ModuleMethod, ModuleRunner
from firsttoken.bundle.manifest import AuditRow
from firsttoken.errors import FirstTokenError
from firsttoken.modules.layers import ModuleLayer
from firsttoken.progress import Report, silent


class NumpyModules(ModuleBackend):
    name = "numpy-blas"
    artifact_file = "model.npz"
    package = "numpy"
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        ("linear", "conv", "depthwise", "embedding"), ("fp32", "fp16", "int8-weight")
    ) | {"lstm": ("fp32",), "other": ("fp32",), "core": ("fp32",)}

    def why_not(self, layer: ModuleLayer, precision: str) -> str:
        return "NumPy has no kernel that rounds activations" if precision == "int8" else ""

    def lower(self, job: ModuleJob, path: Path, report: Report = silent) -> LoweredModule:
        program = job.module.program
        stored: dict[str, np.ndarray] = {}
        weights = {layer.weights[0]: layer for layer in job.layers if len(layer.weights) == 1}
        for name, tensor in program.state_dict.items():
            values = tensor.detach().numpy()
            precision = job.precisions[weights[name].name] if name in weights else "fp32"
            if precision == "int8-weight":
                scale = np.abs(values).reshape(len(values), -1).max(1) / 127
                rows = scale.reshape(-1, *[1] * (values.ndim - 1))
                stored[f"int8/{name}"] = np.rint(values / np.where(rows == 0, 1, rows)).astype(np.int8)
                stored[f"scale/{name}"] = scale.astype(np.float32)
            else:
                stored[f"{precision}/{name}"] = values.astype(np.float16 if precision == "fp16" else values.dtype)
        held = io.BytesIO()
        torch.export.save(program, held)
        np.savez(path, program=np.frombuffer(held.getvalue(), np.uint8), **stored)
        sides = [
            tuple(ArtifactTensor(one.name, f"the {one.name}", getattr(one, "dtype", "float32"), one.shape) for one in side)
            for side in (job.module.inputs, job.module.outputs)
        ]
        return LoweredModule((ModuleMethod("run", sides[0], sides[1]),), {layer.name: list(layer.weights) for layer in job.layers})

    def audit(self, path: Path, lowered: LoweredModule, layers: Sequence[ModuleLayer], precisions: Mapping[str, str]) -> list[AuditRow]:
        rows = []
        with np.load(path) as arrays:
            kinds = {name.partition("/")[2]: name.partition("/")[0] for name in arrays.files if not name.startswith("scale/")}
        for layer in layers:
            names = lowered.layers[layer.name]
            stored = kinds[names[0]] if names else "fp32"
            computed = "fp32"
            rows.append(AuditRow(layer=layer.name, asked=precisions[layer.name], stored=stored, computed=computed, delegated=True))
        return rows

    def open(self, path: Path, methods: Sequence[ModuleMethod], threads: int | None = None) -> ModuleRunner:
        return NumpyModuleRunner(path, methods)


class NumpyModuleRunner(ModuleRunner):
    def __init__(self, path: Path, methods: Sequence[ModuleMethod]) -> None:
        [self.method] = methods
        try:
            with np.load(path) as arrays:
                program = torch.export.load(io.BytesIO(arrays["program"].tobytes()))
                for name in arrays.files:
                    kind, _, weight = name.partition("/")
                    if kind not in ("fp32", "fp16", "int8"):
                        continue
                    values = arrays[name]
                    if kind == "int8":
                        values = values * arrays[f"scale/{weight}"].reshape(-1, *[1] * (values.ndim - 1))
                    with torch.no_grad():
                        program.state_dict[weight].copy_(torch.from_numpy(np.asarray(values)))
        except (OSError, ValueError, KeyError) as error:
            raise FirstTokenError(f"{path}: damaged ({error}); export again") from None
        self.program = program.module()

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            given = self.program(*(torch.from_numpy(inputs[one.name]) for one in self.method.inputs))
        values = list(given.values()) if isinstance(given, dict) else list(given) if isinstance(given, tuple | list) else [given]
        return {one.name: value.numpy() for one, value in zip(self.method.outputs, values, strict=True)}

    def close(self) -> None:
        self.program = None
