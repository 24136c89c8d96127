"""Runs a module's .tflite: a signature for each combination of sizes, batches in pieces."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from firsttoken.backends.module_backend import ArtifactTensor, ModuleMethod, ModuleRunner
from firsttoken.backends.runner import default_threads
from firsttoken.backends.tflite.litert import CompiledModel, aligned_zeros
from firsttoken.backends.tflite.section import Section
from firsttoken.errors import FirstTokenError

BATCH = "batch"
LIMITS: dict[str, np.iinfo] = {"int32": np.iinfo(np.int32), "int8": np.iinfo(np.int8)}


class SignatureRunner(ModuleRunner):
    """A loaded file. Raises `FirstTokenError` for one that the runtime refuses, or whose signatures are not the ``methods``."""

    def __init__(self, path: Path | Section, methods: Sequence[ModuleMethod], threads: int | None = None) -> None:
        self.methods = {method.name: method for method in methods}
        self._inputs = next(iter(self.methods.values())).inputs
        self._model = CompiledModel(path, threads or default_threads(), None)
        self._bound: dict[str, tuple] = {}
        for name, method in self.methods.items():
            if name not in self._model.signatures:
                self.close()
                raise FirstTokenError(f"{path}: has no signature {name!r}, only {', '.join(self._model.signatures)}; export it again")
            _, inputs, outputs = self._model.signatures[name]
            for side, found in ((method.inputs, inputs), (method.outputs, outputs)):
                if sorted(one.file_name for one in side) != sorted(found):
                    self.close()
                    raise FirstTokenError(
                        f"{path}: {name!r} has {found}, where the manifest says {[one.file_name for one in side]}; export it again"
                    )

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `ModuleRunner.run`."""
        sizes = self._sizes_of(inputs)
        if BATCH not in sizes:
            return self.run_method(self._method_for(sizes), inputs)
        pieces, start = [], 0
        for size in self._batches(sizes):
            cut = {one.name: self._cut(one.name, np.asarray(inputs[one.name]), start, size) for one in self._inputs}
            pieces.append(self.run_method(self._method_for({**sizes, BATCH: size}), cut))
            start += size
        return {one.name: self._join(one, [piece[one.name] for piece in pieces]) for one in next(iter(self.methods.values())).outputs}

    def run_method(self, name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs one method at exactly its sizes; outputs in float32."""
        method = self.methods[name]
        if name not in self._bound:
            self._bound[name] = self._bind(method)
        given, results, bound_in, bound_out = self._bound[name]
        for tensor in method.inputs:
            given[tensor.name][...] = self._fitting(tensor, inputs, name)
        self._model.run(name, bound_in, bound_out)
        return {tensor.name: as_float(tensor, results[tensor.name]) for tensor in method.outputs}

    def _bind(self, method: ModuleMethod) -> tuple:
        _, inputs, outputs = self._model.signatures[method.name]
        arrays = []
        for side, order in ((method.inputs, inputs), (method.outputs, outputs)):
            by_file = {one.file_name: one for one in side}
            made = {
                by_file[file_name].name: aligned_zeros(self._shape(method, by_file[file_name]), by_file[file_name].dtype)
                for file_name in order
            }
            arrays.append((made, self._model.bind(list(made.values()))))
        return arrays[0][0], arrays[1][0], arrays[0][1], arrays[1][1]

    @staticmethod
    def _shape(method: ModuleMethod, tensor: ArtifactTensor) -> tuple[int, ...]:
        return tuple(method.sizes[size] if isinstance(size, str) else size for size in tensor.shape)

    def _fitting(self, tensor: ArtifactTensor, inputs: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        if tensor.name not in inputs:
            raise FirstTokenError(f"input {tensor.name!r} is missing; expected {', '.join(one.name for one in self.methods[name].inputs)}")
        value, shape = np.asarray(inputs[tensor.name]), self._shape(self.methods[name], tensor)
        if value.shape != shape:
            raise FirstTokenError(f"input {tensor.name!r} has shape {list(value.shape)}; expected {list(shape)} in {name!r}")
        if tensor.dtype in LIMITS and tensor.scale is None:
            return whole_numbers(tensor, value)
        if tensor.scale is not None:
            limits = LIMITS[tensor.dtype]
            value = np.clip(np.rint(value / np.float32(tensor.scale)) + (tensor.zero_point or 0), limits.min, limits.max)
        return value.astype(tensor.dtype)

    def _sizes_of(self, inputs: Mapping[str, np.ndarray]) -> dict[str, int]:
        """The sizes of the named dimensions, read from the inputs."""
        named: dict[str, int] = {}
        for tensor in self._inputs:
            if tensor.name not in inputs:
                raise FirstTokenError(f"input {tensor.name!r} is missing; expected {', '.join(one.name for one in self._inputs)}")
            shape = np.shape(inputs[tensor.name])
            if len(shape) != len(tensor.shape):
                raise FirstTokenError(f"input {tensor.name!r} has shape {list(shape)}; expected {[*tensor.shape]}")
            for name, size in zip(tensor.shape, shape, strict=True):
                if isinstance(name, str) and named.setdefault(name, size) != size:
                    raise FirstTokenError(f"input {tensor.name!r} has {name} {size}, another one {named[name]}; expected the same")
        return named

    def _method_for(self, sizes: Mapping[str, int]) -> str:
        for name, method in self.methods.items():
            if all(method.sizes.get(key) == size for key, size in sizes.items()):
                return name
        asked = ", ".join(f"{name} {size}" for name, size in sizes.items())
        there = "; ".join(", ".join(f"{name} {size}" for name, size in method.sizes.items()) for method in self.methods.values())
        raise FirstTokenError(f"no graph for {asked}; the file has {there}: give inputs of these sizes, or export with more lengths")

    def _batches(self, sizes: Mapping[str, int]) -> list[int]:
        """Sizes of graphs that make up a batch, the largest first."""
        others = {name: size for name, size in sizes.items() if name != BATCH}
        fitting = [one for one in self.methods.values() if all(one.sizes.get(name) == size for name, size in others.items())]
        there = sorted({one.sizes[BATCH] for one in fitting}, reverse=True)
        left, found = sizes[BATCH], []
        for size in there:
            found += [size] * (left // size)
            left %= size
        if left or not found:
            self._method_for(sizes)  # says which there are
            raise FirstTokenError(
                f"a batch of {sizes[BATCH]} is not made up of {', '.join(map(str, there))}; export with batch 1 among the lengths"
            )
        return found

    def _cut(self, name: str, value: np.ndarray, start: int, size: int) -> np.ndarray:
        shape = next(tensor.shape for tensor in self._inputs if tensor.name == name)
        return value.take(range(start, start + size), shape.index(BATCH)) if BATCH in shape else value

    def _join(self, tensor: ArtifactTensor, pieces: list[np.ndarray]) -> np.ndarray:
        if len(pieces) == 1:
            return pieces[0]
        if BATCH not in tensor.shape:
            raise FirstTokenError(
                f"output {tensor.name!r} is one of a whole batch, and this batch goes in {len(pieces)} pieces; give one of a size that the file has"
            )
        return np.concatenate(pieces, tensor.shape.index(BATCH))

    def close(self) -> None:
        """Frees the runtime's memory."""
        self._bound.clear()
        self._model.close()


def whole_numbers(tensor: ArtifactTensor, value: np.ndarray) -> np.ndarray:
    """Integers in the file's type. Raises `FirstTokenError` for those that it does not hold, and for fractions."""
    limits = LIMITS[tensor.dtype]
    if value.size and (value.min() < limits.min or value.max() > limits.max):
        raise FirstTokenError(
            f"input {tensor.name!r} has values up to {value.max()}; the file takes {tensor.dtype}, from {limits.min} to {limits.max}"
        )
    found = value.astype(tensor.dtype)
    if not np.array_equal(found, value):
        raise FirstTokenError(f"input {tensor.name!r} has fractions; the file takes {tensor.dtype}")
    return found


def as_float(tensor: ArtifactTensor, value: np.ndarray) -> np.ndarray:
    """An output in float32, integers with a scale multiplied out."""
    if tensor.scale is None:
        return value.astype(np.float32)
    return (value.astype(np.float32) - np.float32(tensor.zero_point or 0)) * np.float32(tensor.scale)
