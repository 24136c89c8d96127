"""Running LiteRT-LM's signatures with LiteRT: the cache is one array a layer and kind, given as input and output of the same call.

As in LiteRT-LM, prefill fills the cache with all tokens but the last, which goes through decode: its logits are the prompt's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol

import numpy as np

from firsttoken.backends.litertlm.ops import CACHE, DECODE, PREFILL
from firsttoken.backends.runner import Runner, default_threads
from firsttoken.backends.tflite.litert import CompiledModel, aligned_zeros
from firsttoken.backends.tflite.section import Section
from firsttoken.quiet import quiet_runtime

if TYPE_CHECKING:
    from firsttoken.bundle.manifest import Manifest

NEVER = {"float32": -0.7 * float(np.finfo(np.float32).max), "float16": -45824.0}  # what LiteRT-LM writes where a token may not look


class Described(Protocol):
    """An input or output: `bundle.manifest.Tensor`, or what a file says itself (`foreign.signatures`)."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Sequence[int | str]: ...
    @property
    def dtype(self) -> str: ...


class Entry(Protocol):
    """A signature: `bundle.manifest.Method`, or what a file says itself."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> Sequence[Described]: ...
    @property
    def outputs(self) -> Sequence[Described]: ...


class Call:
    """One signature at one set of lengths, with its host arrays; ``cache`` are those that go in and out."""

    def __init__(self, model: CompiledModel, method: Entry, sizes: dict[str, int], cache: dict[str, np.ndarray]) -> None:
        self.model, self.name = model, method.name
        _, inputs, outputs = model.signatures[method.name]
        self.inputs: dict[str, np.ndarray] = {}
        self.outputs: dict[str, np.ndarray] = {}
        for names, tensors, arrays in ((inputs, method.inputs, self.inputs), (outputs, method.outputs, self.outputs)):
            described = {tensor.name: tensor for tensor in tensors}
            for place, name in enumerate(names):
                tensor = described[name]
                shape = [sizes[n] if isinstance(n, str) else n for n in tensor.shape]
                if arrays is self.inputs and shape != tensor.shape:
                    model.resize(method.name, place, shape)
                arrays[name] = cache[name] if name in cache else aligned_zeros(shape, tensor.dtype)
        self._inputs, self._outputs = model.bind(list(self.inputs.values())), model.bind(list(self.outputs.values()))
        self._prepared = False

    def run(self, tokens: Sequence[int] | np.ndarray, position: int) -> None:
        """Runs ``tokens`` at ``position``; a signature of fixed length is padded behind them, and the padding sees nothing."""
        count, mask = len(tokens), self.inputs["mask"]
        self.inputs["tokens"][...] = 0
        self.inputs["tokens"][0, :count] = tokens
        self.inputs["input_pos"][:] = np.arange(position, position + len(self.inputs["input_pos"]))
        columns, rows = np.arange(mask.shape[3]), np.arange(position, position + mask.shape[2])
        seen = columns[None] <= rows[:, None]
        seen[count:] = False
        mask[0, 0] = seen if mask.dtype == np.bool_ else np.where(seen, 0, NEVER[mask.dtype.name])
        with nullcontext() if self._prepared else quiet_runtime():
            self.model.run(self.name, self._inputs, self._outputs)
        self._prepared = True


class LitertlmRunner(Runner):
    """Loads the graphs with ``threads`` threads (default: the machine's cores, 4 at most); ``kept`` False packs the weights in memory."""

    def __init__(self, graphs: Section, manifest: Manifest, threads: int | None = None, kept: bool = True) -> None:
        super().__init__(manifest)
        facts = manifest.cpu
        self.methods = {method.name: method for method in facts.methods}
        self.states = {f"{prefix}_{state.layer}": state for state in facts.states for prefix in CACHE.values()}
        self.dynamic = PREFILL in self.methods
        self.step = facts.states[0].step
        self.lengths = sorted(int(name.removeprefix(f"{PREFILL}_")) for name in self.methods if name.startswith(f"{PREFILL}_"))
        self.cache: dict[str, np.ndarray] = {}
        self.rows = 0
        self._calls: dict[tuple[str, int], Call] = {}
        self.model = self._load(graphs, manifest, threads or default_threads(), kept)

    def _load(self, graphs: Section, manifest: Manifest, threads: int, kept: bool) -> CompiledModel:
        if not kept:
            return CompiledModel(graphs, threads, None)
        from firsttoken.backends.tflite.weight_cache import packed_weights

        file = manifest.facts(manifest.cpu)
        with packed_weights(file.sha256, file.bytes) as packed:
            if packed.note:
                self.notes.append(packed.note)
            return CompiledModel(graphs, threads, packed.file)

    def _grow(self, wanted: int) -> None:
        """Makes room for ``wanted`` rows, in steps, keeping what is filled. A cache of fixed length is there from the start."""
        if wanted <= self.rows:
            return
        self.rows = min(-(-wanted // self.step) * self.step, self.cache_length)
        old, self.cache = self.cache, {}
        for name, state in self.states.items():
            shape = [self.rows if isinstance(n, str) else n for n in state.shape]
            self.cache[name] = aligned_zeros(shape, state.dtype)
            if self.position:
                self.cache[name][:, :, : self.position] = old[name][:, :, : self.position]
        if not self.dynamic:
            self.rows = self.cache_length
        self._calls.clear()

    def _call(self, name: str, tokens: int) -> Call:
        if (name, tokens) not in self._calls:
            if name != DECODE and self.dynamic:
                self._calls = {key: call for key, call in self._calls.items() if key[0] == DECODE}  # one shape at a time
            self._calls[name, tokens] = Call(self.model, self.methods[name], {"tokens": tokens, "cached": self.rows}, self.cache)
        return self._calls[name, tokens]

    def _prefill(self, tokens: np.ndarray) -> np.ndarray:
        self._grow(min(self.position + len(tokens) + 1, self.cache_length))
        at, rest = self.position, tokens[:-1]
        while len(rest):
            length = len(rest) if self.dynamic else next((n for n in self.lengths if n >= len(rest)), self.lengths[-1])
            piece, rest = rest[:length], rest[length:]
            self._call(PREFILL if self.dynamic else f"{PREFILL}_{length}", length).run(piece, at)
            at += len(piece)
        return self._decode_at(int(tokens[-1]), at)

    def _decode(self, token: int) -> np.ndarray:
        self._grow(self.position + 1)
        return self._decode_at(token, self.position)

    def _decode_at(self, token: int, position: int) -> np.ndarray:
        call = self._call(DECODE, 1)
        call.run([token], position)
        return call.outputs["logits"].reshape(-1)

    def close(self) -> None:
        self._calls.clear()
        self.model.close()
