"""Running LiteRT-LM's signatures with LiteRT: the cache is one array a layer and kind, given as input and output of the same call.

As in LiteRT-LM, prefill fills the cache with all tokens but the last, which goes through decode: its logits are the prompt's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Protocol

import numpy as np

from firsttoken.backends.litertlm.ops import CACHE, DECODE, PREFILL
from firsttoken.backends.runner import Runner, RunnerFacts, default_threads
from firsttoken.backends.tflite.litert import CompiledModel, aligned_zeros
from firsttoken.backends.tflite.section import Section
from firsttoken.quiet import quiet_runtime

CACHE_STEP = 256  # rows by which a cache of run-time length grows
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
    """Loads the graphs with ``threads`` threads (default: the machine's cores, 4 at most).

    ``entries`` are their signatures, with lengths of run time or fixed ones, and caches of any layout. ``packed``, the file's SHA-256 and bytes, names
    the packed weights on disk; None packs in memory.
    """

    def __init__(
        self,
        facts: RunnerFacts,
        graphs: Section,
        entries: Iterable[Entry],
        threads: int | None = None,
        packed: tuple[str, int] | None = None,
    ) -> None:
        super().__init__(facts)
        self.entries = {entry.name: entry for entry in entries}
        self.dynamic = PREFILL in self.entries
        self.lengths = sorted(int(name.removeprefix(f"{PREFILL}_")) for name in self.entries if name.startswith(f"{PREFILL}_"))
        self.states = [tensor for tensor in self.entries[DECODE].inputs if tensor.name.startswith(tuple(CACHE.values()))]
        [mask] = [tensor for tensor in self.entries[DECODE].inputs if tensor.name == "mask"]
        # A cache of fixed length may have more rows than may be used, for padding.
        self.fixed = None if isinstance(mask.shape[3], str) else mask.shape[3]
        self.cache: dict[str, np.ndarray] = {}
        self.rows = 0
        self._calls: dict[tuple[str, int], Call] = {}
        self.model = self._load(graphs, threads or default_threads(), packed)

    def _load(self, graphs: Section, threads: int, packed: tuple[str, int] | None) -> CompiledModel:
        if packed is None:
            return CompiledModel(graphs, threads, None)
        from firsttoken.backends.tflite.weight_cache import packed_weights

        with packed_weights(*packed) as place:
            if place.note:
                self.notes.append(place.note)
            return CompiledModel(graphs, threads, place.file)

    def _grow(self, wanted: int) -> None:
        """Makes room for ``wanted`` rows, in steps, keeping what is filled. A cache of fixed length is there from the start."""
        if wanted <= self.rows:
            return
        self.rows = self.fixed or min(-(-wanted // CACHE_STEP) * CACHE_STEP, self.cache_length)
        old, self.cache = self.cache, {}
        for state in self.states:
            array = aligned_zeros([self.rows if isinstance(n, str) else n for n in state.shape], state.dtype)
            if self.position:
                filled = tuple(slice(self.position) if isinstance(n, str) else slice(None) for n in state.shape)
                array[filled] = old[state.name][filled]
            self.cache[state.name] = array
        self._calls.clear()

    def _call(self, name: str, tokens: int) -> Call:
        if (name, tokens) not in self._calls:
            if name == PREFILL:
                self._calls = {key: call for key, call in self._calls.items() if key[0] == DECODE}  # one shape at a time
            self._calls[name, tokens] = Call(self.model, self.entries[name], {"tokens": tokens, "cached": self.rows}, self.cache)
        return self._calls[name, tokens]

    def _length(self, wanted: int, at: int) -> int:
        """Tokens of the next prefill call, for ``wanted`` more at position ``at``; 1 means through decode.

        A graph of fixed length writes all its rows, padding too, and where they would run over the cache's end the write is moved back over what is
        there: so it must fit with its padding.
        """
        if self.dynamic:
            return wanted
        fitting = [length for length in self.lengths if at + length <= self.rows]
        return next((length for length in fitting if length >= wanted), fitting[-1] if fitting else 1)

    def _prefill(self, tokens: np.ndarray) -> np.ndarray:
        self._grow(min(self.position + len(tokens) + 1, self.cache_length))
        at, rest = self.position, tokens[:-1]
        while len(rest):
            length = self._length(len(rest), at)
            piece, rest = rest[:length], rest[length:]
            if length == 1 and not self.dynamic:
                self._decode_at(int(piece[0]), at)
            else:
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

    @property
    def held_types(self) -> dict[str, np.dtype]:
        return {state.name: np.dtype(state.dtype) for state in self.states}

    def held_arrays(self) -> dict[str, np.ndarray]:
        return {name: array.copy() for name, array in self._held_parts(self.position).items()}

    def _held_parts(self, count: int) -> dict[str, np.ndarray]:
        """The parts of the cache that ``count`` tokens fill; all of one of fixed length."""
        filled = {state.name: tuple(slice(count) if isinstance(n, str) else slice(None) for n in state.shape) for state in self.states}
        return {name: array[filled[name]] for name, array in self.cache.items()}

    def hold_again(self, tokens: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        self.reset()
        self._grow(min(len(tokens) + 1, self.cache_length))
        self._put_back(tokens, arrays, self._held_parts(len(tokens)))

    def close(self) -> None:
        self._calls.clear()
        self.model.close()
