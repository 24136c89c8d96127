"""A .tflite on LiteRT's GPU accelerator, behind the few methods that `LitertlmRunner` calls; in the process that may die of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from firsttoken.backends.litertlm.ops import DECODE
from firsttoken.backends.litertlm.runner import LitertlmRunner
from firsttoken.backends.tflite.litert import CompiledModel as CpuModel
from firsttoken.backends.tflite.section import Section
from firsttoken.errors import FirstTokenError

PATIENCE = 60  # times that the GPU is waited for, each some seconds


class Arrays:
    """Host arrays of one signature's inputs or outputs, in its order."""

    def __init__(self, arrays: list[np.ndarray]) -> None:
        self.arrays = arrays


@contextmanager
def told(doing: str) -> Iterator[None]:
    """Makes one line of what LiteRT's Python class raises."""
    try:
        yield
    except RuntimeError as error:
        raise FirstTokenError(
            f"{doing} ({' '.join(str(error).split())}); export it again with a target litertlm-gpu or tflite-gpu"
        ) from None


class GpuModel:
    """Loads a file for the GPU. Raises `FirstTokenError` unless the accelerator takes every operator.

    An array that is given as input and output of one call is a cache: it stays on the GPU, in one buffer, and the host's is not written.
    """

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator

        # the CPU too, so that an operator which the GPU leaves is told and not the end
        both = HardwareAccelerator.GPU | HardwareAccelerator.CPU
        with told("loading it, LiteRT's GPU accelerator refused it"):
            self._model = CompiledModel.from_file(str(path), hardware_accel=both)
        if not self._model.is_fully_accelerated():
            raise FirstTokenError(
                "LiteRT's GPU accelerator did not take every operator; export it again with a target litertlm-gpu or tflite-gpu"
            )
        listed = self._model.get_signature_list()
        self.signatures = {name: (n, list(of["inputs"]), list(of["outputs"])) for n, (name, of) in enumerate(listed.items())}
        self._buffers: dict[tuple[str, str, str], object] = {}
        self._kept: dict[int, tuple[np.ndarray, object]] = {}  # a cache's buffer, by its array

    def resize(self, signature: str, position: int, shape: Sequence[int]) -> None:
        raise FirstTokenError(f"graph {signature!r}: a GPU takes no shapes of run time (input {position}, {list(shape)})")

    def bind(self, arrays: list[np.ndarray]) -> Arrays:
        return Arrays(arrays)

    def run(self, signature: str, inputs: Arrays, outputs: Arrays) -> None:
        """Runs a signature; the outputs' arrays hold the result, a cache's the GPU."""
        _, names, results = self.signatures[signature]
        both = {id(array) for array in inputs.arrays} & {id(array) for array in outputs.arrays}
        given, got = {}, {}
        for name, array in zip(names, inputs.arrays, strict=True):
            given[name] = self._cache(signature, name, array) if id(array) in both else self._buffer(signature, name, "input")
            if id(array) not in both:
                given[name].write(np.ascontiguousarray(array))
        for name, array in zip(results, outputs.arrays, strict=True):
            got[name] = self._cache(signature, name, array) if id(array) in both else self._buffer(signature, name, "output")
        with told(f"running graph {signature!r}, LiteRT's GPU accelerator failed"):
            self._model.run_by_name(signature, given, got)
            for name, array in zip(results, outputs.arrays, strict=True):
                if id(array) not in both:
                    array[...] = np.asarray(got[name].read(array.size, array.dtype)).reshape(array.shape)
            if len(both) == len(results):
                self._wait()

    def _wait(self) -> None:
        """Waits until the GPU has done what is queued: a read gives up on it after some seconds, and a long prompt takes a software device longer.

        What is read is a result that no one wants, each time another buffer: one that could not be read stays locked.
        """
        name, (_, _, results) = next((key, of) for key, of in self.signatures.items() if key == DECODE)
        for _ in range(PATIENCE):
            try:
                self._model.create_output_buffer_by_name(name, results[-1]).read(1, np.float32)
                return
            except RuntimeError as error:
                if "lock" not in str(error):
                    raise
        raise FirstTokenError(
            "the GPU does not end what it was given; run it again on an idle machine, or prove fewer windows with --windows"
        )

    def _buffer(self, signature: str, name: str, way: str) -> Any:
        key = signature, name, way
        if key not in self._buffers:
            self._buffers[key] = getattr(self._model, f"create_{way}_buffer_by_name")(signature, name)
        return self._buffers[key]

    def _cache(self, signature: str, name: str, array: np.ndarray) -> Any:
        if id(array) not in self._kept:
            buffer = self._model.create_input_buffer_by_name(signature, name)
            buffer.write(array)
            self._kept[id(array)] = array, buffer  # the array too: while it lives, no other has its id
        return self._kept[id(array)][1]

    def close(self) -> None:
        self._buffers.clear()
        self._kept.clear()
        self._model.close()


class GpuLitertlmRunner(LitertlmRunner):
    """LiteRT-LM's signatures on the GPU, in this process."""

    def _load(self, graphs: Section, threads: int, packed: tuple[str, int] | None) -> CpuModel:
        return GpuModel(graphs.path)  # type: ignore[return-value]  # has what of it is called
