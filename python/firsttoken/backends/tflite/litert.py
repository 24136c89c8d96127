"""LiteRT's C API through ctypes: run a signature on host arrays without copying them.

The wheel's own Python class can bind a numpy array only as a flat tensor, which its runtime refuses for an input of
run-time shape; the C library in the same wheel takes the array with its shape. The structures below are marked ABI
stable in the C headers (litert_layout.h, litert_model_types.h, litert_any.h) and checked there by static asserts.
"""

import ctypes
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from firsttoken.backends.tflite.section import Section
from firsttoken.errors import FirstTokenError
from firsttoken.quiet import is_verbose, quiet_runtime

MAX_RANK = 8
MARGIN = 16 << 20  # bytes of packed weights past twice the file's
CPU = 1  # kLiteRtHwAcceleratorCpu
MIN_LOGGER_SEVERITY, ANY_INT, SILENT, WARNING = 25, 2, 4, 2  # environment option, its kind, its values
ELEMENT_TYPES = {"float32": 1, "int32": 2, "int64": 4, "bool": 6, "int8": 9, "float16": 10}
ALIGNMENT = 64  # LITERT_HOST_MEMORY_BUFFER_ALIGNMENT


class Layout(ctypes.Structure):
    # rank is a seven-bit field whose neighbour (has_strides) stays 0
    _fields_ = [("rank", ctypes.c_uint32), ("dimensions", ctypes.c_int32 * MAX_RANK), ("strides", ctypes.c_uint32 * MAX_RANK)]


class TensorType(ctypes.Structure):
    _fields_ = [("element_type", ctypes.c_int32), ("layout", Layout)]


class Any(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("value", ctypes.c_int64)]


class EnvironmentOption(ctypes.Structure):
    _fields_ = [("tag", ctypes.c_int32), ("value", Any)]


@lru_cache(1)
def library() -> ctypes.CDLL:
    """Loads the C library of the ai-edge-litert wheel. Raises `FirstTokenError` when it is not installed."""
    spec = find_spec("ai_edge_litert")
    path = Path(spec.origin).parent / "libLiteRt.so" if spec and spec.origin else None
    if path is None or not path.exists():
        raise FirstTokenError("LiteRT's library is not installed; run: pip install 'ai-edge-litert==2.3.0'")
    loaded = ctypes.CDLL(str(path))
    loaded.LiteRtGetSignatureKey.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    loaded.LiteRtCompiledModelResizeInputTensor.argtypes = [pointer, size, size, pointer, size]
    loaded.LiteRtGetCompiledModelOutputTensorLayouts.argtypes = [pointer, size, size, pointer, ctypes.c_bool]
    loaded.LiteRtRunCompiledModel.argtypes = [pointer, size, size, pointer, size, pointer]
    loaded.LiteRtCreateTensorBufferFromHostMemory.argtypes = [pointer, pointer, size, pointer, pointer]
    loaded.LiteRtCreateModelFromFd.argtypes = [pointer, ctypes.c_int, size, size, pointer]
    loaded.LiteRtDestroyTensorBuffer.argtypes = [pointer]
    loaded.LiteRtDestroyTensorBuffer.restype = None
    return loaded


def check(status: int, what: str) -> None:
    """Raises `FirstTokenError` naming ``what`` failed, for a status other than success."""
    if status:
        raise FirstTokenError(f"LiteRT: {what} failed with status {status} (litert_common.h); run with -v to see its own log")


def may_grow_to(size: int) -> bool:
    """Whether a file may have ``size`` bytes here (``ulimit -f``); one in memory counts, and the runtime dies where it may not."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return limit in (resource.RLIM_INFINITY, -1) or limit >= size


def _text(name: ctypes.c_char_p) -> str:
    assert name.value is not None, "a call that succeeds has set it"
    return name.value.decode()


def aligned_zeros(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """Zeros of ``shape`` at an address that the runtime takes without copying."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape))
    raw = np.zeros(count * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + count * dtype.itemsize].view(dtype).reshape(shape)


@dataclass(frozen=True)
class ReadOnly:
    """A file of packed weights that is to be used as it is."""

    path: Path

    def open(self) -> int:
        """Returns a descriptor that nothing can be written through. Raises `OSError`."""
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)


class Buffers:
    """Host arrays bound as the inputs or outputs of a signature. Keeps the arrays alive."""

    def __init__(self, arrays: list[np.ndarray]) -> None:
        self.arrays = arrays
        self.handles = (ctypes.c_void_p * len(arrays))()
        for n, array in enumerate(arrays):
            if not array.flags.c_contiguous or array.ctypes.data % ALIGNMENT:
                raise AssertionError("arrays for the runtime come from aligned_zeros")
            kind = TensorType(ELEMENT_TYPES[array.dtype.name], Layout(array.ndim, (ctypes.c_int32 * MAX_RANK)(*array.shape)))
            handle = ctypes.c_void_p()
            check(
                library().LiteRtCreateTensorBufferFromHostMemory(
                    ctypes.byref(kind), array.ctypes.data, array.nbytes, None, ctypes.byref(handle)
                ),
                f"binding an array of shape {list(array.shape)}",
            )
            self.handles[n] = handle

    def __del__(self) -> None:
        for handle in self.handles:
            if handle:
                library().LiteRtDestroyTensorBuffer(handle)


class CompiledModel:
    """A .tflite, a file or part of one, loaded for the CPU with ``threads`` threads.

    ``weight_cache`` is the file where XNNPACK keeps packed weights between starts (and shares them between
    signatures); None packs in memory at every start. One that is ``ReadOnly`` is never written to: the runtime ends the process where it
    would have to, so ask `kernel_check` first. Raises `FirstTokenError` for a file the runtime refuses.
    """

    def __init__(self, path: Path | Section, threads: int, weight_cache: Path | ReadOnly | None) -> None:
        self._environment, self._model, self._compiled = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        with quiet_runtime():
            self._load(path, threads, weight_cache)
        self.signatures = self._signatures()
        # Each signature's last arrays, kept until it has others. XNNPACK remembers their addresses, and when its workspace grows on
        # behalf of another partition it sets up again with them; had they been freed, the workspace could lie there, and a RESHAPE
        # whose two ends seem to be one place would never again be copied (unary-elementwise-nc.c, `xnn_run_state_skip`).
        self._bound: dict[str, tuple[Buffers, Buffers]] = {}

    def _load(self, path: Path | Section, threads: int, weight_cache: Path | ReadOnly | None) -> None:
        api = library()
        severity = EnvironmentOption(MIN_LOGGER_SEVERITY, Any(ANY_INT, WARNING if is_verbose() else SILENT))
        check(api.LiteRtCreateEnvironment(1, ctypes.byref(severity), ctypes.byref(self._environment)), "starting")
        size = path.size if isinstance(path, Section) else path.stat().st_size
        if isinstance(path, Section):
            with path.open() as stream:  # the runtime keeps a descriptor of its own
                opened = api.LiteRtCreateModelFromFd(self._environment, stream.fileno(), path.start, size, ctypes.byref(self._model))
        else:
            opened = api.LiteRtCreateModelFromFile(self._environment, str(path).encode(), ctypes.byref(self._model))
        check(opened, f"reading {path}")
        # ":memory" shares packed weights between signatures without a file.
        cache = str(weight_cache) if weight_cache else ":memory" if may_grow_to(2 * size + MARGIN) else ""
        shared = f'weight_cache_file_path = "{cache}"\n' if cache else ""
        if isinstance(weight_cache, ReadOnly):  # the runtime closes the descriptor; the path is for its messages
            shared = f'weight_cache_file_path = "packed"\nweight_cache_file_descriptor = {weight_cache.open()}\n'
        self._payload = ctypes.create_string_buffer(f"num_threads = {threads}\n{shared}".encode())
        self._keep = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)  # the payload is Python's to free
        options, cpu = ctypes.c_void_p(), ctypes.c_void_p()
        check(api.LiteRtCreateOptions(ctypes.byref(options)), "making options")
        check(api.LiteRtSetOptionsHardwareAccelerators(options, CPU), "choosing the CPU")
        check(api.LiteRtCreateOpaqueOptions(b"xnnpack", self._payload, self._keep, ctypes.byref(cpu)), "making CPU options")
        check(api.LiteRtAddOpaqueOptions(options, cpu), "adding CPU options")
        check(api.LiteRtCreateCompiledModel(self._environment, self._model, options, ctypes.byref(self._compiled)), f"loading {path}")
        api.LiteRtDestroyOptions(options)

    def _signatures(self) -> dict[str, tuple[int, list[str], list[str]]]:
        api = library()
        found: dict[str, tuple[int, list[str], list[str]]] = {}
        count = ctypes.c_size_t()
        check(api.LiteRtGetNumModelSignatures(self._model, ctypes.byref(count)), "listing signatures")
        for index in range(count.value):
            signature, key = ctypes.c_void_p(), ctypes.c_char_p()
            check(api.LiteRtGetModelSignature(self._model, ctypes.c_size_t(index), ctypes.byref(signature)), "reading a signature")
            check(api.LiteRtGetSignatureKey(signature, ctypes.byref(key)), "reading a signature's name")
            inputs, outputs = (self._tensor_names(signature, which) for which in ("Input", "Output"))
            found[_text(key)] = (index, inputs, outputs)
        return found

    @staticmethod
    def _tensor_names(signature: ctypes.c_void_p, which: str) -> list[str]:
        api, count, names = library(), ctypes.c_size_t(), []
        check(getattr(api, f"LiteRtGetNumSignature{which}s")(signature, ctypes.byref(count)), "counting tensors")
        for n in range(count.value):
            name = ctypes.c_char_p()
            check(getattr(api, f"LiteRtGetSignature{which}Name")(signature, ctypes.c_size_t(n), ctypes.byref(name)), "naming a tensor")
            names.append(_text(name))
        return names

    def resize(self, signature: str, position: int, shape: Sequence[int]) -> None:
        """Gives input number ``position`` a run-time shape."""
        dimensions = (ctypes.c_int32 * len(shape))(*shape)
        index = self.signatures[signature][0]
        check(
            library().LiteRtCompiledModelResizeInputTensor(self._compiled, index, position, dimensions, len(shape)), f"resizing {signature}"
        )

    def reserve(self, signature: str, shapes: Sequence[Sequence[int]]) -> None:
        """Makes room for inputs of these ``shapes``, in their order, the largest that will ever come. Memory that is not written to costs nothing.

        Without it XNNPACK's workspace grows between two calls, and whatever shares it is set up again at the addresses of before: a RESHAPE
        between the delegate and an operator outside it may then be left out for good, as above; of 320 prompts of a Gemma 4 in FP16, 14 were wrong.
        """
        for position, shape in enumerate(shapes):
            self.resize(signature, position, shape)
        index, _, outputs = self.signatures[signature]
        layouts = (Layout * len(outputs))()
        status = library().LiteRtGetCompiledModelOutputTensorLayouts(self._compiled, index, len(outputs), layouts, True)
        check(status, f"making room for {signature}")

    def bind(self, arrays: list[np.ndarray]) -> Buffers:
        """Makes arrays of `aligned_zeros` ready to be the inputs or outputs of a run."""
        return Buffers(arrays)

    def run(self, signature: str, inputs: Buffers, outputs: Buffers) -> None:
        """Runs a signature; the outputs' arrays hold the result."""
        status = library().LiteRtRunCompiledModel(
            self._compiled, self.signatures[signature][0], len(inputs.handles), inputs.handles, len(outputs.handles), outputs.handles
        )
        check(status, f"running {signature}")
        self._bound[signature] = (inputs, outputs)

    def close(self) -> None:
        """Frees the runtime's memory."""
        api = library()
        self._bound.clear()
        for name, handle in (("CompiledModel", self._compiled), ("Model", self._model), ("Environment", self._environment)):
            if handle:
                getattr(api, f"LiteRtDestroy{name}")(handle)
                handle.value = None
