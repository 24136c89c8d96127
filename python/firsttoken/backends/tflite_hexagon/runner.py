"""Running a bundle's NPU graphs on the host, on the HTP backend for x86: what `firsttoken prove` compares.

The cache is handed over as the app does it: fixed tensors that the host owns, new rows appended after every call.
"""

from pathlib import Path

import numpy as np

from firsttoken.backends.ring import append_rows
from firsttoken.backends.runner import Runner
from firsttoken.backends.tflite_hexagon.compiled import Context
from firsttoken.backends.tflite_hexagon.libraries import HostLibraries
from firsttoken.backends.tflite_hexagon.npu_inputs import HostFeed
from firsttoken.backends.tflite_hexagon.qnn_context import QnnSession
from firsttoken.bundle.manifest import Manifest


class HexagonRunner(Runner):
    """Runs ``contexts`` (one per method of the NPU artifact) for the bundle in ``folder``. One is loaded at a time."""

    def __init__(self, folder: Path, manifest: Manifest, contexts: dict[str, Context], libraries: HostLibraries) -> None:
        super().__init__(manifest)
        self.contexts, self.libraries = contexts, libraries
        self.feed = HostFeed(folder, manifest)
        self.lengths = self.feed.npu.prefill_lengths
        self.prefill_chunk = self.lengths[-1]
        self.states = {f"{which}.{state.layer}": state for state in manifest.need_npu()[0].states for which in ("key", "value")}
        self.cache = {name: np.zeros([int(n) for n in state.shape], state.dtype) for name, state in self.states.items()}
        self._session: QnnSession | None = None

    def _prefill(self, tokens: np.ndarray) -> np.ndarray:
        if self.position:
            return self._run(f"extend_{self.lengths[-1]}", tokens, self.lengths[-1])
        length = next(n for n in self.lengths if n >= len(tokens))
        return self._run(f"first_{length}", tokens, length)

    def _decode(self, token: int) -> np.ndarray:
        return self._run("decode", np.array([token], np.int32), 1)

    def _run(self, method: str, tokens: np.ndarray, length: int) -> np.ndarray:
        outputs = self._loaded(method).run({**self.feed.call(tokens, self.position, length), **self.cache})
        for name, array in self.cache.items():
            append_rows(array, outputs[name], self.position, len(tokens), self.states[name].length)
        return outputs["logits"].reshape(-1).astype(np.float32)

    def _loaded(self, method: str) -> QnnSession:
        context = self.contexts[method]
        if self._session is None or self._session.context is not context:
            self.close()
            self._session = QnnSession(context, self.libraries)
        return self._session

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
