"""Running a .pte bundle with ExecuTorch's Python runtime.

One method, ``forward``: tokens and their positions in the cache, which lives in the program's own buffers; so a decode step
passes two numbers and gets the logits. It is the form that ExecuTorch's own LLM runner takes. Where drafts can be checked, the logits are those of
the call's last few tokens.
"""

import weakref
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from firsttoken.backends.runner import Runner, default_threads
from firsttoken.bundle.manifest import Manifest
from firsttoken.errors import FirstTokenError
from firsttoken.extras import install_command, need
from firsttoken.quiet import quiet_runtime

if TYPE_CHECKING:
    from torch import Tensor

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


class ExecutorchRunner(Runner):
    """Loads ``artifact`` with ``threads`` threads (default: the machine's cores, 4 at most).

    XNNPACK's weight cache exists in ExecuTorch's C++ options (``packed_cache_path``, ``weight_cache_enabled`` of
    XnnpackBackendOptions), but the bindings of release 1.5 export no ``set_option``: each start packs the weights again.

    The thread pool is the process's own and XNNPACK keeps a pointer to it, so it can only be resized while no runner is
    open. Raises `FirstTokenError` if another is open with another number of threads, or if the file cannot be loaded.
    """

    def __init__(self, artifact: Path, manifest: Manifest, threads: int | None = None) -> None:
        super().__init__(manifest)
        self.all_can_be_taken_back = all(state.kind == "key_value" for state in manifest.artifacts[0].states)
        with quiet_runtime():
            self._torch, portable_lib = import_runtime()
            set_threads(portable_lib, threads or default_threads())
            try:
                # Loaded here and not at the first call, which is what `_load_for_executorch` would do.
                self._program = portable_lib._load_program(
                    str(artifact), program_verification=portable_lib.Verification.InternalConsistency
                )
                self._method = self._program.load_method("forward")
            except RuntimeError as error:
                raise FirstTokenError(f"{artifact}: ExecuTorch cannot load it ({error}); export it again for this runtime") from None
        _open_runners.add(self)
        self._token = self._torch.zeros(1, 1, dtype=self._torch.int64)
        self._position = self._torch.zeros(1, dtype=self._torch.int64)
        self.draft_tokens = manifest.target.draft_tokens or 0
        self._rows = np.zeros((1 + self.draft_tokens, self.vocab_size), np.float32)
        self._decoded = False

    def _prefill(self, tokens: np.ndarray) -> np.ndarray:
        with quiet_runtime():
            return self._many(tokens)[-1]

    def _check_draft(self, tokens: np.ndarray) -> np.ndarray:
        """What it writes into the cache is behind the position, and so masked until it is written again."""
        with nullcontext() if self._decoded else quiet_runtime():
            return self._many(tokens)

    def _many(self, tokens: np.ndarray) -> np.ndarray:
        positions = np.arange(self.position, self.position + len(tokens), dtype=np.int64)
        return self._call(self._torch.from_numpy(tokens.astype(np.int64))[None], self._torch.from_numpy(positions))

    def _decode(self, token: int) -> np.ndarray:
        self._token[0, 0], self._position[0] = token, self.position
        with nullcontext() if self._decoded else quiet_runtime():  # not every time: it takes a share of a small model's step
            [logits] = self._call(self._token, self._position)
        self._decoded = True
        return logits

    def _call(self, tokens: "Tensor", cache_position: "Tensor") -> np.ndarray:
        try:
            # A clone would be made by torch's own threads, which then spin and take the cores from XNNPACK's.
            [logits] = self._method.call([tokens, cache_position], clone_outputs=False)
        except RuntimeError as error:
            raise FirstTokenError(f"ExecuTorch: running {tokens.shape[1]} tokens at position {self.position} failed ({error})") from None
        given = logits.numpy().reshape(-1, self.vocab_size)
        np.copyto(self._rows[: len(given)], given)  # the program's memory would go with the program
        return self._rows[: len(given)]

    def close(self) -> None:
        self._method = self._program = None
        _open_runners.discard(self)


def set_threads(portable_lib: ModuleType, threads: int) -> None:
    """Resizes the process's thread pool where it has another size. Raises `FirstTokenError` while a runner uses it."""
    if portable_lib._threadpool_get_thread_count() == threads:
        return
    if len(_open_runners):
        raise FirstTokenError(
            f"ExecuTorch shares one thread pool, and another runner is open with {portable_lib._threadpool_get_thread_count()} threads; "
            f"close it before opening one with {threads}"
        )
    portable_lib._unsafe_reset_threadpool(threads)
