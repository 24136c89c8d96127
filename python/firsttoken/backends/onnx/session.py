"""A graph loaded in onnxruntime, and its calls over arrays of ours: nothing is copied that the graph does not write itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible

ERRORS_ONLY = 4  # onnxruntime's log level "fatal": what it says goes into the error besides


def options(threads: int) -> Any:
    """Session options: so many threads and no others, quiet."""
    import onnxruntime

    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads, chosen.inter_op_num_threads = threads, 1
    chosen.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    chosen.log_severity_level = ERRORS_ONLY
    return chosen


class Session:
    """One loaded graph. Its file of weights is mapped, not read."""

    def __init__(self, path: Path, threads: int) -> None:
        """Raises `FirstTokenError` for a file that onnxruntime does not take."""
        import onnxruntime

        self.path = path
        try:
            self._session = onnxruntime.InferenceSession(str(path), options(threads), providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common class
            raise FirstTokenError(
                f"{path}: onnxruntime {onnxruntime.__version__} does not load it ({first_line(error)}); export it again"
            ) from None
        self._binding = self._session.io_binding()

    def input(self, name: str, array: np.ndarray) -> None:
        """Binds an array, which has to stay where it is until it is bound again."""
        self._bind(self._binding.bind_input, name, array)

    def output(self, name: str, array: np.ndarray) -> None:
        self._bind(self._binding.bind_output, name, array)

    def _bind(self, bind: Callable[..., None], name: str, array: np.ndarray) -> None:
        try:
            bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        except Exception as error:  # a state of the manifest's that the graph does not have
            raise FirstTokenError(f"{self.path}: onnxruntime does not take {name!r} ({first_line(error)}); export it again") from None

    def run(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Runs over what is bound, and ``inputs`` anew. Raises `FirstTokenError` where the graph cannot be computed."""
        for name, array in inputs.items():
            self.input(name, array)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise FirstTokenError(f"{self.path}: onnxruntime cannot compute it ({first_line(error)}); export it again") from None


def first_line(error: Exception) -> str:
    """What onnxruntime said, in one line."""
    return visible(next(iter(str(error).splitlines()), type(error).__name__), 300)
