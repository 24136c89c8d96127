"""ExecuTorch by its C++ runtime, which gives what the Python bindings do not: packed weights in a file, and the memory that the program's buffers lie in."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from firsttoken.errors import FirstTokenError

LONGEST_PATH = 255  # bytes of an option's value: kMaxOptionValueLength of ExecuTorch's runtime/backend/options.h
MOST_DIMENSIONS = 4


class Input(ctypes.Structure):
    """``firsttoken_input`` of native.cpp."""

    _fields_ = (("values", ctypes.c_void_p), ("rank", ctypes.c_int32), ("sizes", ctypes.c_int32 * MOST_DIMENSIONS))


class NativeLibrary:
    """The library that `native_build` makes of native.cpp. Raises `OSError` if it cannot be loaded.

    Its two functions for threads are called as the Python bindings call theirs.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self.open, self.run, self.close, self.arena = (getattr(library, f"firsttoken_{name}") for name in ("open", "run", "close", "arena"))
        self.open.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]
        self.run.argtypes = [
            ctypes.c_void_p, ctypes.POINTER(Input), ctypes.c_uint32, ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(ctypes.c_int64),
        ]  # fmt: skip
        self.arena.argtypes, self.arena.restype = [ctypes.c_void_p, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint64)], ctypes.c_void_p
        self.close.argtypes, self.close.restype = [ctypes.c_void_p], None
        self._threadpool_get_thread_count = library.firsttoken_threads
        self._unsafe_reset_threadpool = library.firsttoken_set_threads


class NativeModel:
    """A loaded .pte. ``packed`` is the file of XNNPACK's packed weights: used if it is one, else written; None packs in memory.

    Raises `RuntimeError` with ExecuTorch's error number if it cannot be loaded.
    """

    def __init__(self, library: NativeLibrary, artifact: Path, packed: Path | None) -> None:
        self._library, self._model = library, ctypes.c_void_p()
        error = library.open(os.fsencode(artifact), os.fsencode(packed) if packed else None, ctypes.byref(self._model))
        if error:
            raise RuntimeError(described(error))

    def run(self, inputs: Sequence[np.ndarray], output: np.ndarray) -> None:
        """Calls ``forward`` with int64 arrays and fills float32 ``output``. Raises `RuntimeError`."""
        given = (Input * len(inputs))()
        for entry, array in zip(given, inputs, strict=True):
            assert array.dtype == np.int64 and array.flags.c_contiguous and array.ndim <= MOST_DIMENSIONS
            entry.values, entry.rank = array.ctypes.data, array.ndim
            entry.sizes[: array.ndim] = array.shape
        count = ctypes.c_int64()
        error = self._library.run(self._model, given, len(inputs), output.ctypes.data, output.size, ctypes.byref(count))
        if error or count.value != output.size:
            raise RuntimeError(described(error) if error else f"{count.value} values came back; expected {output.size}")

    def arena(self, index: int) -> np.ndarray:
        """The memory that the program planned under ``index``, uint8, as long as the model is open. Raises `FirstTokenError` where there is none."""
        size = ctypes.c_uint64()
        address = self._library.arena(self._model, index, ctypes.byref(size))
        if not address:
            raise FirstTokenError(f"the program has no memory {index}; export it again")
        return np.ctypeslib.as_array((ctypes.c_uint8 * size.value).from_address(address))

    def close(self) -> None:
        if self._model:
            self._library.close(self._model)
            self._model = ctypes.c_void_p()


def described(error: int) -> str:
    return f"error 0x{error:02x} of ExecuTorch's runtime/core/error.h"
