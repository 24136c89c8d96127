"""Running an .onnx bundle: one graph over one KV cache, in arrays that the graph writes its new rows into."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from firsttoken.backends.onnx.cores import past_names, present_names
from firsttoken.backends.onnx.recurrent import past_name, present_name
from firsttoken.backends.onnx.session import Session
from firsttoken.backends.runner import Runner, default_threads
from firsttoken.errors import FirstTokenError
from firsttoken.quiet import quiet_runtime

if TYPE_CHECKING:
    from firsttoken.bundle.manifest import Artifact, Manifest


class OnnxRunner(Runner):
    """Loads ``path`` with ``threads`` threads (default: the machine's cores, 4 at most)."""

    def __init__(self, path: Path, manifest: Manifest, artifact: Artifact, threads: int | None = None) -> None:
        super().__init__(manifest)
        with quiet_runtime():
            self.session = Session(path, threads or default_threads())
        self.cache: dict[str, np.ndarray] = {}
        self.replaced: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # what a call takes, and what it gives for the next
        self._places: dict[str, tuple[str, str]] = {}  # their input and output
        for state in artifact.states:
            if state.kind == "key_value" and state.length != self.cache_length:
                raise FirstTokenError(
                    f"{path}: the manifest's cache of layer {state.layer} has {state.length} rows, its target {self.cache_length}; it is damaged, export again"
                )
            shape = [state.length if isinstance(n, str) else n for n in state.shape]
            if state.kind == "key_value":
                for which, taken, given in zip(("key", "value"), past_names(state.layer), present_names(state.layer), strict=True):
                    array = self.cache[f"{which}.{state.layer}"] = np.zeros(shape, state.dtype)
                    self.session.input(taken, array)
                    self.session.output(given, array)
            else:
                name = f"{state.kind}.{state.layer}"
                self.replaced[name] = np.zeros(shape, state.dtype), np.zeros(shape, state.dtype)
                self._places[name] = past_name(state.kind, state.layer), present_name(state.kind, state.layer)
        self.all_can_be_taken_back = not self.replaced
        self._ones = np.ones((1, self.cache_length), np.int64)
        self.logits = np.zeros((1, 1, self.vocab_size), np.float32)
        self.session.output("logits", self.logits)

    def _prefill(self, tokens: np.ndarray) -> np.ndarray:
        end = self.position + len(tokens)
        inputs = {
            "input_ids": np.asarray(tokens, np.int64)[None],
            "attention_mask": self._ones[:, :end],
            "position_ids": np.arange(self.position, end, dtype=np.int64)[None],
        }
        for name, (taken, given) in self.replaced.items():
            if not self.position:
                taken[...] = 0
            inputs[self._places[name][0]] = taken
            self.session.output(self._places[name][1], given)
        self.session.run(inputs)
        self.replaced = {name: (given, taken) for name, (taken, given) in self.replaced.items()}
        return self.logits.reshape(-1)

    def _decode(self, token: int) -> np.ndarray:
        return self._prefill(np.array([token]))

    @property
    def held_types(self) -> dict[str, np.dtype]:
        return {name: array.dtype for name, array in self._held_parts(0).items()}

    def held_arrays(self) -> dict[str, np.ndarray]:
        return {name: array.copy() for name, array in self._held_parts(self.position).items()}

    def _held_parts(self, count: int) -> dict[str, np.ndarray]:
        """The parts of the cache that ``count`` tokens fill."""
        return {name: array[:, :, :count] for name, array in self.cache.items()} | {
            name: taken for name, (taken, _) in self.replaced.items()
        }

    def hold_again(self, tokens: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        self.reset()
        self._put_back(tokens, arrays, self._held_parts(len(tokens)))

    def close(self) -> None:
        del self.session
