"""A converted module that tests lower in many ways."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from firsttoken.backends.module_backend import LoweredModule, ModuleJob
from firsttoken.backends.tflite.modules.backend import TfliteModules
from firsttoken.backends.tflite.modules.conversion import convert
from firsttoken.backends.tflite.modules.graph_file import GraphFile
from firsttoken.modules.layers import ModuleLayer, module_layers
from firsttoken.modules.module import Module


@dataclass
class Converted:
    """A module, its layers, and the bytes of its float file."""

    module: Module
    layers: list[ModuleLayer]
    raw: bytes
    sizes: dict[str, dict[str, int]]

    def file(self) -> GraphFile:
        return GraphFile.parse(self.raw, "a test's")

    def plan(self, **by_kind: str) -> dict[str, str]:
        """Precisions by kind of layer; FP32 for all others, and for tables that are looked up at fixed places."""
        return {layer.name: by_kind.get(layer.kind, "fp32") if layer.name != "places" else "fp32" for layer in self.layers}

    def job(self, precisions: dict[str, str], method: str = "min-max") -> ModuleJob:
        samples = {one.name: value for one, value in zip(self.module.inputs, self.inputs(16), strict=True)}
        return ModuleJob(self.module, self.layers, precisions, samples, {layer.name: method for layer in self.layers})

    def inputs(self, count: int, **sizes: int) -> list[np.ndarray]:
        """Other inputs than the example's, of the largest lengths."""
        chosen = {name: max(values) for name, values in self.module.lengths.items()} | {"batch": count} | sizes
        generator = np.random.default_rng(count)
        found = []
        for one in self.module.inputs:
            shape = tuple(chosen[size] if isinstance(size, str) else size for size in one.shape)
            found.append(generator.integers(1, 50, shape) if one.dtype == "int64" else generator.standard_normal(shape, np.float32))
        return found

    def lower(self, precisions: dict[str, str], path: Path, method: str = "min-max") -> LoweredModule:
        return TfliteModules().lower_converted(self.job(precisions, method), self.file(), self.sizes, path)

    def error(self, lowered: LoweredModule, path: Path, count: int = 8) -> float:
        """The largest difference of a written file from the module, as a part of the module's size."""
        inputs = self.inputs(count)
        wanted = self.module.run(*(torch.from_numpy(value) for value in inputs))
        runner = TfliteModules().open(path, lowered.methods, 1)
        try:
            got = runner.run({one.name: value for one, value in zip(self.module.inputs, inputs, strict=True)})
        finally:
            runner.close()
        return max(
            float(np.abs(got[name] - value.numpy()).max() / np.sqrt(np.mean(np.square(value.numpy())))) for name, value in wanted.items()
        )


def converted(module: Module) -> Converted:
    file, sizes = convert(module)
    return Converted(module, module_layers(module.program), file.packed(), sizes)
