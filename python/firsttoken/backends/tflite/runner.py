"""Running a .tflite bundle: three signatures, or four, over one KV cache that lives in numpy arrays.

The runtime reads the cache in place, so a decode step writes one row per layer and copies nothing else. The cache a
call sees grows in steps: attention never reads far past what is filled. Of a layer with a window it is a ring (`backends.ring`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from firsttoken.backends.host_inputs import CHECK, of_window
from firsttoken.backends.ring import append_rows, ring_mask
from firsttoken.backends.runner import MASKED, Runner, default_threads
from firsttoken.backends.tflite.litert import CompiledModel, ReadOnly, aligned_zeros
from firsttoken.backends.tflite.page_advice import read_ahead, read_single_pages
from firsttoken.backends.tflite.pieces import largest_calls, piece_at
from firsttoken.backends.tflite.row_buffer import RowBuffer
from firsttoken.errors import FirstTokenError
from firsttoken.quiet import quiet_runtime

if TYPE_CHECKING:
    from firsttoken.bundle.manifest import Manifest, Method, State


WRITTEN = "written"  # positions that rows have held, among `held_arrays`: a ring has lost the oldest of them


class SignatureModel(Protocol):
    """A loaded .tflite file: `CompiledModel`, or what takes its place where LiteRT's C library is not."""

    signatures: dict[str, tuple[int, list[str], list[str]]]  # number, names of inputs and of outputs

    def resize(self, signature: str, position: int, shape: Sequence[int]) -> None: ...
    def reserve(self, signature: str, shapes: Sequence[Sequence[int]]) -> None: ...  # the largest of every input, before the first run
    def bind(self, arrays: list[np.ndarray]) -> Any: ...  # what `run` takes as inputs or outputs
    def run(self, signature: str, inputs: Any, outputs: Any) -> None: ...
    def close(self) -> None: ...


class Call:
    """One signature at one set of shapes, with its host arrays. ``sizes`` gives the run-time dimensions by name."""

    def __init__(self, model: SignatureModel, method: Method, sizes: dict[str, int], shared: dict[str, np.ndarray]) -> None:
        self.model, self.name, self.sizes = model, method.name, sizes
        _, inputs, outputs = model.signatures[method.name]
        tensors = {("in", t.name): t for t in method.inputs} | {("out", t.name): t for t in method.outputs}
        self.inputs, self.outputs = {}, {}
        for position, name in enumerate(inputs):
            tensor = tensors["in", name]
            shape = [sizes[n] if isinstance(n, str) else n for n in tensor.shape]
            if shape != tensor.shape:
                model.resize(method.name, position, shape)
            self.inputs[name] = shared[name] if name in shared else aligned_zeros(shape, tensor.dtype)
        for name in outputs:
            tensor = tensors["out", name]
            self.outputs[name] = aligned_zeros([sizes[n] if isinstance(n, str) else n for n in tensor.shape], tensor.dtype)
        self._inputs, self._outputs = model.bind(list(self.inputs.values())), model.bind(list(self.outputs.values()))
        self._prepared = False

    def run(self) -> np.ndarray:
        # shapes are prepared by the first run, so that is the one that complains
        with nullcontext() if self._prepared else quiet_runtime():
            self.model.run(self.name, self._inputs, self._outputs)
        self._prepared = True
        return self.outputs["logits"].reshape(-1)


def shape_of(state: State, rows: int) -> list[int]:
    """A state's shape with ``rows`` rows passed."""
    return [rows if isinstance(n, str) else n for n in state.shape]


class TfliteRunner(Runner):
    """Loads ``artifact`` with ``threads`` threads (default: the machine's cores, 4 at most).

    XNNPACK's packed weights are cached on disk by the artifact's hash; ``weight_cache`` False packs in memory, a path
    names the file to use, `ReadOnly` one that is whole.
    """

    def __init__(self, artifact: Path, manifest: Manifest, threads: int | None = None, weight_cache: bool | Path | ReadOnly = True) -> None:
        super().__init__(manifest)
        self.bundle, self.facts = manifest, manifest.artifacts[0]
        self.methods = {method.name: method for method in self.facts.methods}
        caches = [state for state in self.facts.states if state.kind == "key_value"]
        self.states = {f"{which}.{state.layer}": state for state in caches for which in ("key", "value")}
        self.step = caches[0].step
        self.rings = {state.window: state.length for state in caches}  # rows by window; None: those of layers that see all
        replaced = [state for state in self.facts.states if state.advances == "replace"]
        self.replaced = {f"{state.kind}.{state.layer}": aligned_zeros(shape_of(state, 0), state.dtype) for state in replaced}
        """What each call takes and returns anew."""
        self.all_can_be_taken_back = not replaced
        self.buffers = {name: RowBuffer(shape_of(state, state.length), state.dtype) for name, state in self.states.items()}
        self.cache = {name: buffer.array for name, buffer in self.buffers.items()}
        self.rows = 0  # cache rows that are shown of a layer that sees all
        self.used = 0  # positions that cache rows may hold
        self.written = 0  # and that they have held since they were all zero
        self._decode_call: Call | None = None
        self._check_call: Call | None = None
        self._taken = 0  # of the rows that it gave
        if CHECK in self.methods:
            self.draft_tokens = int(self.methods[CHECK].inputs[0].shape[0]) - 1
        self.model = self._load(artifact, threads or default_threads(), weight_cache)
        self._reserve()

    def _reserve(self) -> None:
        for tokens, cached in largest_calls(self.prefill_chunk, self.cache_length):
            largest = {"tokens": tokens, **self._row_counts(cached)}
            for name, method in self.methods.items():
                shapes = {tensor.name: [largest[n] if isinstance(n, str) else n for n in tensor.shape] for tensor in method.inputs}
                with quiet_runtime():
                    self.model.reserve(name, [shapes[given] for given in self.model.signatures[name][1]])

    def _piece(self) -> int:
        return piece_at(self.prefill_chunk, self.position)

    def _load(self, artifact: Path, threads: int, weight_cache: bool | Path | ReadOnly) -> SignatureModel:
        if weight_cache is not True:
            return self._loaded(artifact, threads, weight_cache or None)
        from firsttoken.backends.tflite.weight_cache import packed_weights

        file = self.bundle.facts(self.facts)
        with packed_weights(file.sha256, file.bytes) as packed:
            if packed.note:
                self.notes.append(packed.note)
            return self._loaded(artifact, threads, packed.file)

    @staticmethod
    def _loaded(artifact: Path, threads: int, packed: Path | ReadOnly | None) -> SignatureModel:
        """Loads the artifact. Weights that are packed already are read while it loads; of the file itself single rows of the embedding are left to read."""
        path = packed.path if isinstance(packed, ReadOnly) else packed
        if path is not None:
            read_ahead(path)
        model = CompiledModel(artifact, threads, packed)
        if path is not None:
            read_single_pages(artifact)
        return model

    def _grow(self, wanted: int) -> None:
        """Makes room for ``wanted`` cache rows, in steps, keeping what is filled."""
        if wanted > self.rows:
            self._show(min(-(-wanted // self.step) * self.step, self.cache_length))

    def _show(self, rows: int) -> None:
        """Lets the cache's arrays have ``rows`` rows, or as many as their layer keeps."""
        for name, state in self.states.items():
            shown, kept = self.cache[name].shape[2], min(rows, state.length)
            if kept != shown:  # a ring that is whole stays
                self.cache[name] = self.buffers[name].show(kept, min(self.position, kept))
        self.rows, self.used = rows, self.position

    def _append(self, call: Call, count: int, begin: int = 0) -> None:
        """Takes ``count`` of the rows that a call gave, from ``begin`` on, into the cache."""
        end = self.position + count
        for name, array in self.cache.items():
            append_rows(array, call.outputs[name][:, :, begin:], self.position, count, self.states[name].length)
        for name, array in self.replaced.items():
            array[...] = call.outputs[name]
        self.used = max(self.used, end)
        self.written = max(self.written, end)

    def _prefill(self, tokens: np.ndarray) -> np.ndarray:
        count, start = len(tokens), self.position
        before = self.rows
        if start and start != self.rows:
            self._show(start)
        method = self.methods["extend" if start else "first"]
        call = Call(self.model, method, {"tokens": count, **self._row_counts(start)}, (self.cache if start else {}) | self.replaced)
        call.inputs["tokens"][:] = tokens
        call.inputs["positions"][:] = np.arange(start, start + count)
        call.inputs["last"][:] = count - 1
        for window, length in self.rings.items() if start else ():
            if window is not None:
                mask = call.inputs[of_window("cache_mask", window)]
                mask[:] = ring_mask(window, length, mask.shape[1], np.arange(start, start + count), start)
        logits = call.run()
        # one row more, so that the first decode step finds its slot without growing
        self._grow(max(before, min(start + count + 1, self.cache_length)))
        self._append(call, count)
        return logits

    def _row_counts(self, rows: int) -> dict[str, int]:
        """The run-time lengths where ``rows`` rows are passed of a layer that sees all."""
        return {of_window("cached", window): min(rows, length) for window, length in self.rings.items()}

    def _decode(self, token: int) -> np.ndarray:
        position = self.position
        self._grow(position + 1)
        if self._decode_call is None or self._decode_call.sizes != self._row_counts(self.rows):
            self._decode_call = Call(self.model, self.methods["decode"], self._row_counts(self.rows), self.cache | self.replaced)
        inputs = self._decode_call.inputs
        for window, length in self.rings.items():
            mask, slot = inputs[of_window("cache_mask", window)], inputs[of_window("slot", window)]
            if window is None:
                mask[0, : position + 1] = 0
                mask[0, position + 1 :] = MASKED
            else:
                mask[:] = ring_mask(window, length, mask.shape[1], np.array([position]), position + 1)
            slot[:] = 0
            slot[0, position % length] = 1
        self._free_rows(position, 1)
        inputs["tokens"][0], inputs["positions"][0] = token, position
        logits = self._decode_call.run()
        self._append(self._decode_call, 1)
        return logits

    def _free_rows(self, position: int, count: int) -> None:
        """Zeroes the rows of ``count`` positions where a ring uses them again."""
        if position + count <= min(self.rings.values()):
            return
        places = np.arange(position, position + count)
        for name, state in self.states.items():
            self.cache[name][:, :, places[places >= state.length] % state.length] = 0
        self.written = max(self.written, position + count)

    def _check_draft(self, tokens: np.ndarray) -> np.ndarray:
        position, count = self.position, len(tokens)
        self._grow(position + count)
        if self._check_call is None or self._check_call.sizes != self._row_counts(self.rows):
            self._check_call = Call(self.model, self.methods[CHECK], self._row_counts(self.rows), self.cache)
        inputs, places = self._check_call.inputs, np.arange(position, position + count)
        for window, length in self.rings.items():
            mask, slot = inputs[of_window("cache_mask", window)], inputs[of_window("slot", window)]
            mask[:], slot[:] = 0, 0  # rows behind the drafted tokens are computed and not looked at
            slot[np.arange(count), places % length] = 1
            mask[:count] = ring_mask(window or self.cache_length, length, mask.shape[1], places, position + count)
        self._free_rows(position, count)
        inputs["tokens"][:], inputs["positions"][:] = 0, position
        inputs["tokens"][:count], inputs["positions"][:count] = tokens, places
        self._check_call.run()
        self._taken = 0
        return self._check_call.outputs["logits"][:count]

    def _accept(self, count: int) -> None:
        assert self._check_call is not None, "`check` has made it"
        self._append(self._check_call, count, self._taken)
        self._taken += count

    def _keepable(self, length: int) -> int:
        """A ring has lost what stood before its last rows: where a window would reach back to them, nothing can be kept; nor of a convolution."""
        kept = (
            window is None or max(0, self.written - rows) <= max(0, length - window + 1)  # the first position held, and the first seen
            for window, rows in self.rings.items()
        )
        return super()._keepable(length) if all(kept) else 0

    def _forget(self, length: int) -> None:
        for name, array in self.cache.items():
            rows = self.states[name].length
            if self.used <= rows:
                array[:, :, length : self.used] = 0
            else:
                array[:, :, np.arange(max(length, self.used - rows), self.used) % rows] = 0
        for array in self.replaced.values():
            array[:] = 0  # what is forgotten is all of it
        self.used = length
        self.written = self.written if length else 0

    @property
    def held_types(self) -> dict[str, np.dtype]:
        states = {name: np.dtype(state.dtype) for name, state in self.states.items()}
        return states | {name: array.dtype for name, array in self.replaced.items()}

    def held_arrays(self) -> dict[str, np.ndarray]:
        return {name: array.copy() for name, array in self._held_parts(self.position).items()} | {WRITTEN: np.array([self.written])}

    def _held_parts(self, count: int) -> dict[str, np.ndarray]:
        """The parts of the cache that ``count`` tokens fill."""
        return {name: array[:, :, : min(count, self.states[name].length)] for name, array in self.cache.items()} | self.replaced

    def hold_again(self, tokens: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        self.reset()
        count, others = len(tokens), dict(arrays)
        written = others.pop(WRITTEN, np.zeros(0, np.int64))
        if written.shape != (1,) or written.dtype != np.int64 or not count <= written[0] <= self.cache_length:
            raise FirstTokenError(
                f"cache of {count} tokens: {WRITTEN!r} is {written.tolist()}; expected one number from {count} to {self.cache_length}"
            )
        self._grow(min(count + 1, self.cache_length))
        self._put_back(tokens, others, self._held_parts(count))
        self.used, self.written = count, int(written[0])

    def reset(self) -> None:
        """Forgets the cache. Used rows are zeroed: decode relies on the row it fills next being zero."""
        for array in self.cache.values():
            array[:, :, : self.used] = 0
        for array in self.replaced.values():
            array[:] = 0
        self.position = self.used = self.written = 0

    def close(self) -> None:
        self._decode_call = self._check_call = None
        self.model.close()
