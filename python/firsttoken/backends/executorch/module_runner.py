"""Running the .pte of a module with ExecuTorch's Python runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from firsttoken.backends.executorch.runner import _open_runners, import_runtime, set_threads
from firsttoken.backends.module_backend import ModuleMethod, ModuleRunner
from firsttoken.backends.runner import default_threads
from firsttoken.errors import FirstTokenError
from firsttoken.quiet import quiet_runtime


class ExecutorchModuleRunner(ModuleRunner):
    """A loaded file, with ``threads`` threads (default: the machine's cores, 4 at most), which all open files of the process share.

    A batch larger than the file was planned for goes in pieces; of a fixed batch, the last piece is filled up. Raises `FirstTokenError` for a file that
    ExecuTorch cannot load.
    """

    def __init__(self, path: Path, methods: Sequence[ModuleMethod], threads: int | None = None) -> None:
        [self.about] = methods
        self.path = path
        self._torch, portable_lib = import_runtime()
        with quiet_runtime():
            set_threads(portable_lib, threads or default_threads())
            try:
                self._program: Any = portable_lib._load_program(
                    str(path), program_verification=portable_lib.Verification.InternalConsistency
                )
                self._method: Any = self._program.load_method(self.about.name)
                meta = self._program.method_meta(self.about.name)
            except RuntimeError as error:
                raise FirstTokenError(f"{path}: ExecuTorch cannot load it ({error}); export it again for this runtime") from None
        if meta.num_inputs() != len(self.about.inputs) or meta.num_outputs() != len(self.about.outputs):
            raise FirstTokenError(
                f"{path}: takes {meta.num_inputs()} inputs and gives {meta.num_outputs()} outputs, expected {len(self.about.inputs)} and {len(self.about.outputs)}"
            )
        self.most = [tuple(meta.input_tensor_meta(number).sizes()) for number in range(meta.num_inputs())]
        _open_runners.add(self)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `ModuleRunner.run`."""
        given = [self._checked(number, inputs) for number in range(len(self.about.inputs))]
        batch, together = len(given[0]), self.most[0][0]
        free = isinstance(self.about.inputs[0].shape[0], str) and together > 1
        if batch == together or (free and batch < together):
            return self._call(given)
        pieces: list[dict[str, np.ndarray]] = []
        for start in range(0, batch, together):
            taken = [values[start : start + together] for values in given]
            missing = 0 if free else together - len(taken[0])
            filled = [np.concatenate([values, np.repeat(values[-1:], missing, 0)]) if missing else values for values in taken]
            pieces.append({name: values[: len(taken[0])] for name, values in self._call(filled).items()})
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def _checked(self, number: int, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """An input in the file's type. Raises `FirstTokenError` for one that is absent or has a shape that the file does not take."""
        about, most = self.about.inputs[number], self.most[number]
        if about.name not in inputs:
            raise FirstTokenError(
                f"{self.path}: input {about.name!r} is absent; expected {', '.join(one.name for one in self.about.inputs)}"
            )
        values = np.ascontiguousarray(inputs[about.name], np.dtype(about.dtype))
        fits = values.ndim == len(most) and len(values) > 0
        for place, (size, limit) in enumerate(zip(values.shape[1:], most[1:], strict=False), 1):
            fits = fits and (0 < size <= limit if isinstance(about.shape[place], str) else size == limit)
        if not fits:
            wanted = ", ".join(
                f"{size} up to {limit}" if isinstance(size, str) else str(size) for size, limit in zip(about.shape, most, strict=True)
            )
            raise FirstTokenError(f"{self.path}: input {about.name!r} is {list(values.shape)}; expected [{wanted}]")
        return values

    def _call(self, given: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        try:
            with quiet_runtime():
                found = self._method.call([self._torch.from_numpy(values) for values in given], clone_outputs=False)
        except RuntimeError as error:
            raise FirstTokenError(
                f"{self.path}: ExecuTorch cannot run it on {[list(values.shape) for values in given]} ({error})"
            ) from None
        # Copied: the program's memory is used again by the next call.
        return {about.name: np.array(values.numpy(), np.float32) for about, values in zip(self.about.outputs, found, strict=True)}

    def close(self) -> None:
        self._method = self._program = None
        _open_runners.discard(self)
