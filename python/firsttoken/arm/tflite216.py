"""Our .tflite runner on TensorFlow Lite 2.16.1, which has no LiteRT C library: its Python interpreter takes that place.

Runs inside the emulated machine only.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from firsttoken.backends.tflite.litert import ReadOnly
from firsttoken.backends.tflite.runner import TfliteRunner
from firsttoken.errors import FirstTokenError


class Interpreter216:
    """What `firsttoken.backends.tflite.litert.CompiledModel` is, on the interpreter: signatures by name, run on host arrays."""

    def __init__(self, path: Path, threads: int) -> None:
        from tflite_runtime.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(str(path), num_threads=threads)
        except (RuntimeError, ValueError) as error:
            raise FirstTokenError(f"TensorFlow Lite 2.16.1 cannot load {path} ({error})") from None
        listed = self._interpreter.get_signature_list()
        self.signatures = {name: (n, found["inputs"], found["outputs"]) for n, (name, found) in enumerate(listed.items())}
        self._runners = {name: self._interpreter.get_signature_runner(name) for name in listed}

    def resize(self, signature: str, position: int, shape: Sequence[int]) -> None:
        """Does nothing: the interpreter's signature runner takes the shapes of what it is given."""

    def reserve(self, signature: str, shapes: Sequence[Sequence[int]]) -> None:
        """Does nothing, for the same reason."""

    def bind(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        return arrays

    def run(self, signature: str, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> None:
        """Runs a signature on ``inputs``, in the order of its names, and copies the result into ``outputs``."""
        _, input_names, output_names = self.signatures[signature]
        try:
            found = self._runners[signature](**dict(zip(input_names, inputs, strict=True)))
        except (RuntimeError, ValueError) as error:
            raise FirstTokenError(f"TensorFlow Lite 2.16.1: running {signature} failed ({error})") from None
        for name, array in zip(output_names, outputs, strict=True):
            array[...] = found[name]

    def close(self) -> None:
        del self._interpreter, self._runners


class Tflite216Runner(TfliteRunner):
    """`TfliteRunner` on TensorFlow Lite 2.16.1."""

    def _load(self, artifact: Path, threads: int, weight_cache: bool | Path | ReadOnly) -> Interpreter216:
        return Interpreter216(artifact, threads)
