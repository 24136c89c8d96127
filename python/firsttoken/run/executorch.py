"""Running a .pte bundle with ExecuTorch's Python runtime.

One method, ``forward``: tokens, position and a mask whose width says how much of the cache is read. The cache lives in
the program's own buffers, so a decode step passes two numbers and a row of zeros.
"""

from pathlib import Path

import numpy as np

from firsttoken.errors import FirstTokenError
from firsttoken.export.manifest import Manifest
from firsttoken.quiet import quiet_runtime
from firsttoken.run.runner import Runner, default_threads


class ExecutorchRunner(Runner):
    """Loads ``artifact`` with ``threads`` threads.

    XNNPACK's weight cache exists in ExecuTorch's C++ options, but release 1.5 offers no way to set it from Python: each
    start packs the weights again. The thread pool is the process's: the last runner opened decides its size.
    """

    def __init__(self, artifact: Path, manifest: Manifest, threads: int | None = None):
        super().__init__(manifest)
        with quiet_runtime():
            try:
                import executorch.kernels.quantized  # noqa: F401 registers the quantized embedding's kernels
                import torch
                from executorch.extension.pybindings import portable_lib
            except ImportError as error:
                raise FirstTokenError(f"ExecuTorch is not installed ({error}); run: pip install 'executorch==1.5.1'") from None
            self._torch = torch
            portable_lib._unsafe_reset_threadpool(threads or default_threads())
            try:
                self.program = portable_lib._load_for_executorch(str(artifact))
            except RuntimeError as error:
                raise FirstTokenError(f"{artifact}: ExecuTorch cannot load it ({error}); export it again for this runtime") from None
        self._open_mask = torch.zeros(1, self.cache_length)

    def _prefill(self, tokens: np.ndarray) -> np.ndarray:
        from firsttoken.decoder.rotary import causal_mask

        return self._forward(self._torch.from_numpy(tokens.astype(np.int64))[None], causal_mask(len(tokens), self.position))

    def _decode(self, token: int) -> np.ndarray:
        return self._forward(self._torch.tensor([[token]]), self._open_mask[:, : self.position + 1])

    def _forward(self, tokens, mask) -> np.ndarray:
        try:
            [logits] = self.program.forward([tokens, self._torch.tensor([self.position]), mask])
        except RuntimeError as error:
            raise FirstTokenError(f"ExecuTorch: running {tokens.shape[1]} tokens at position {self.position} failed ({error})") from None
        return logits.numpy().reshape(-1)

    def close(self):
        self.program = None
