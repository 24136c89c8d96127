"""Running a .pte bundle with ExecuTorch's Python runtime.

One method, ``forward``: tokens and their positions in the cache, which lives in the program's own buffers; so a decode step
passes two numbers and gets the logits. It is the form that ExecuTorch's own LLM runner takes. Where drafts can be checked, the logits are those of
the call's last few tokens.

ExecuTorch is called through a small library of its C++ runtime where that can be had (`native_build`), and through its Python bindings elsewhere: the same
libraries, and so the same logits, but packed weights that are kept, the cache's rows, and no PyTorch are the first one's alone.
"""

import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from firsttoken.backends.executorch.native import NativeModel
from firsttoken.backends.executorch.native_build import native_library
from firsttoken.backends.executorch.native_load import load_native
from firsttoken.backends.executorch.state import names, state_arrays
from firsttoken.backends.runner import Runner, default_threads
from firsttoken.bundle.manifest import Manifest
from firsttoken.errors import FirstTokenError
from firsttoken.extras import install_command, need
from firsttoken.quiet import quiet_runtime

_open_runners: weakref.WeakSet = weakref.WeakSet()


def import_runtime() -> tuple[ModuleType, ModuleType]:
    """Returns torch and ExecuTorch's bindings, with the quantized embedding's kernels. Raises `FirstTokenError` if absent."""
    need("executorch", "running a .pte bundle")
    try:
        import executorch.kernels.quantized  # noqa: F401 registers its kernels
        import torch

        # The public portable_lib only passes on what is in here, but imports the whole exporter for it: 6 seconds.
        from executorch.extension.pybindings import _C as portable_lib
    except ImportError as error:
        raise FirstTokenError(f"ExecuTorch cannot be loaded ({error}); run: {install_command('executorch')}") from None
    return torch, portable_lib


class ThreadPool(Protocol):
    """The process's threads, as the Python bindings and the native library both give them."""

    def _threadpool_get_thread_count(self) -> int: ...
    def _unsafe_reset_threadpool(self, threads: int) -> object: ...


class ExecutorchRunner(Runner):
    """Loads ``artifact`` with ``threads`` threads (default: the machine's cores, 4 at most).

    With ``weight_cache`` XNNPACK's packed weights are cached on disk by the artifact's hash, where ``native`` says that the C++ runtime may be used and
    it is there; the bindings of release 1.5 export no options, so through them each start packs the weights again.

    The thread pool is the process's own and XNNPACK keeps a pointer to it, so it can only be resized while no runner is
    open. Raises `FirstTokenError` if another is open with another number of threads, or if the file cannot be loaded.
    """

    def __init__(
        self, artifact: Path, manifest: Manifest, threads: int | None = None, weight_cache: bool = False, native: bool = True
    ) -> None:
        super().__init__(manifest)
        self.artifact, self.states = artifact, manifest.artifacts[0].states
        self.all_can_be_taken_back = all(state.kind == "key_value" for state in self.states)
        library, self._why = native_library() if native else (None, "it was not asked for")
        self._native: NativeModel | None = None
        self._method: Any = None
        with quiet_runtime():
            try:
                if library is not None:
                    set_threads(library, threads or default_threads())
                    facts = manifest.facts(manifest.cpu) if weight_cache else None
                    self._native, note = load_native(library, artifact, facts)
                    self.notes += [note] if note else []
                else:
                    self._bind(artifact, threads or default_threads())
                    self.notes += said_of_bindings(self._why, manifest.prefix is not None) if native else []
            except RuntimeError as error:
                raise FirstTokenError(f"{artifact}: ExecuTorch cannot load it ({error}); export it again for this runtime") from None
        _open_runners.add(self)
        self._token, self._position = np.zeros((1, 1), np.int64), np.zeros(1, np.int64)
        self.draft_tokens = manifest.target.draft_tokens or 0
        self._rows = np.zeros((1 + self.draft_tokens, self.vocab_size), np.float32)
        self._decoded = False

    def _bind(self, artifact: Path, threads: int) -> None:
        """Loads it through the Python bindings."""
        self._torch, portable_lib = import_runtime()
        set_threads(portable_lib, threads)
        # Loaded here and not at the first call, which is what `_load_for_executorch` would do.
        self._program = portable_lib._load_program(str(artifact), program_verification=portable_lib.Verification.InternalConsistency)
        self._method = self._program.load_method("forward")

    def _prefill(self, tokens: np.ndarray) -> np.ndarray:
        with quiet_runtime():
            return self._many(tokens)[-1]

    def _check_draft(self, tokens: np.ndarray) -> np.ndarray:
        """What it writes into the cache is behind the position, and so masked until it is written again."""
        with nullcontext() if self._decoded else quiet_runtime():
            return self._many(tokens)

    def _many(self, tokens: np.ndarray) -> np.ndarray:
        positions = np.arange(self.position, self.position + len(tokens), dtype=np.int64)
        return self._call(tokens.astype(np.int64)[None], positions)

    def _decode(self, token: int) -> np.ndarray:
        self._token[0, 0], self._position[0] = token, self.position
        with nullcontext() if self._decoded else quiet_runtime():  # not every time: it takes a share of a small model's step
            [logits] = self._call(self._token, self._position)
        self._decoded = True
        return logits

    def _call(self, tokens: np.ndarray, cache_position: np.ndarray) -> np.ndarray:
        rows = self._rows[: tokens.shape[1]]  # of the last tokens, as many as there is room for
        try:
            if self._native is not None:
                self._native.run([tokens, cache_position], rows)
                return rows
            # A clone would be made by torch's own threads, which then spin and take the cores from XNNPACK's.
            given = [self._torch.from_numpy(tokens), self._torch.from_numpy(cache_position)]
            [logits] = self._method.call(given, clone_outputs=False)
        except RuntimeError as error:
            raise FirstTokenError(f"ExecuTorch: running {tokens.shape[1]} tokens at position {self.position} failed ({error})") from None
        np.copyto(rows, logits.numpy().reshape(rows.shape))  # the program's memory would go with the program
        return rows

    @cached_property
    def _state_arrays(self) -> dict[str, np.ndarray]:
        """What the program remembers, as views into its memory. Raises `FirstTokenError` where the manifest says something else of it."""
        assert self._native is not None
        return state_arrays(self.artifact, self.states, self._native.arena)

    def _held_parts(self, count: int) -> dict[str, np.ndarray]:
        """The parts of the program's memory that ``count`` tokens fill."""
        appended = {name for state in self.states if state.advances == "append" for name in names(state)}
        return {name: array[:, :count] if name in appended else array for name, array in self._state_arrays.items()}

    @property
    def held_types(self) -> dict[str, np.dtype]:
        return {} if self._native is None else {name: np.dtype(state.dtype) for state in self.states for name in names(state)}

    def held_arrays(self) -> dict[str, np.ndarray] | None:
        return None if self._native is None else {name: array.copy() for name, array in self._held_parts(self.position).items()}

    def hold_again(self, tokens: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        if self._native is None:
            raise FirstTokenError(
                f"ExecuTorch's Python bindings keep the cache to themselves, and its C++ runtime is not used: {self._why}"
            )
        self.reset()
        self._put_back(tokens, arrays, self._held_parts(len(tokens)))

    def close(self) -> None:
        self.__dict__.pop("_state_arrays", None)  # views into memory that goes
        if self._native is not None:
            self._native.close()
        self._method = self._program = None
        _open_runners.discard(self)


def said_of_bindings(why: str, keeps_prefix: bool) -> list[str]:
    """What a user should hear where the C++ runtime cannot be used, ``why``."""
    notes = [f"ExecuTorch runs by its Python bindings, which pack the weights at every start: {why}"]
    return notes + ["the kept system prompt is computed each time, for the same reason"] * keeps_prefix


def set_threads(pool: ThreadPool | ModuleType, threads: int) -> None:
    """Resizes the process's thread pool where it has another size. Raises `FirstTokenError` while a runner uses it."""
    if pool._threadpool_get_thread_count() == threads:
        return
    if len(_open_runners):
        raise FirstTokenError(
            f"ExecuTorch shares one thread pool, and another runner is open with {pool._threadpool_get_thread_count()} threads; "
            f"close it before opening one with {threads}"
        )
    pool._unsafe_reset_threadpool(threads)
