"""Running anyone's LiteRT-LM signatures: static or run-time lengths, caches of any layout.

As in LiteRT-LM, prefill fills the cache with all tokens but the last, which goes through decode: its logits are the prompt's.
"""

import os

import numpy as np

from firsttoken.backends.litertlm.runner import Call
from firsttoken.backends.runner import Runner, default_threads
from firsttoken.backends.tflite.litert import CompiledModel, aligned_zeros
from firsttoken.backends.tflite.section import Section
from firsttoken.foreign.facts import Subject
from firsttoken.foreign.signatures import DECODE, PREFILL, ROWS, Offer

STEP = 256  # rows by which a cache of run-time length grows


class SignatureRunner(Runner):
    """Loads the graphs with ``threads`` threads (default: the machine's cores, 4 at most); ``kept`` False packs the weights in memory."""

    def __init__(self, graphs: Section, offer: Offer, subject: Subject, threads: int | None = None, kept: bool = True) -> None:
        super().__init__(subject)
        self.offer = offer
        self.prefill_chunk = self.cache_length  # pieces are chosen here, as LiteRT-LM does, with one decode step at the end of all
        self.cache: dict[str, np.ndarray] = {}
        self.rows = 0
        self._calls: dict[tuple[str, int], Call] = {}
        self.model = self._load(graphs, threads or default_threads(), kept)

    def _load(self, graphs: Section, threads: int, kept: bool) -> CompiledModel:
        if not kept:
            return CompiledModel(graphs, threads, None)
        from firsttoken.backends.tflite.weight_cache import packed_weights
        from firsttoken.foreign.open import hash_of

        with packed_weights(hash_of(graphs.path), os.stat(graphs.path).st_size) as packed:
            if packed.note:
                self.notes.append(packed.note)
            return CompiledModel(graphs, threads, packed.file)

    def _grow(self, wanted: int) -> None:
        """Makes room for ``wanted`` rows, in steps, keeping what is filled. A cache of fixed length is there from the start."""
        if wanted <= self.rows:
            return
        self.rows = self.offer.rows or min(-(-wanted // STEP) * STEP, self.cache_length)
        old, self.cache = self.cache, {}
        for state in self.offer.states:
            array = aligned_zeros([n if isinstance(n, int) else self.rows for n in state.shape], state.dtype)
            if self.position:
                filled = tuple(slice(None) if isinstance(n, int) else slice(self.position) for n in state.shape)
                array[filled] = old[state.name][filled]
            self.cache[state.name] = array
        self._calls.clear()

    def _call(self, name: str, tokens: int) -> Call:
        if (name, tokens) not in self._calls:
            if name == PREFILL:
                self._calls = {key: call for key, call in self._calls.items() if key[0] == DECODE}  # one shape at a time
            self._calls[name, tokens] = Call(self.model, self.offer.signatures[name], {"tokens": tokens, ROWS: self.rows}, self.cache)
        return self._calls[name, tokens]

    def _length(self, wanted: int, at: int) -> int:
        """Tokens of the next prefill call, for ``wanted`` more at position ``at``; 1 means through decode.

        A static graph writes all its rows, padding too, and where they would run over the cache's end the write is moved back over what is
        there: so it must fit with its padding. The cache may have more rows than may be used, to that end.
        """
        if self.offer.dynamic:
            return wanted
        fitting = [length for length in self.offer.lengths if at + length <= (self.offer.rows or self.cache_length)]
        return next((length for length in fitting if length >= wanted), fitting[-1] if fitting else 1)

    def _prefill(self, tokens: np.ndarray) -> np.ndarray:
        self._grow(min(self.position + len(tokens) + 1, self.cache_length))
        at, rest = self.position, tokens[:-1]
        while len(rest):
            length = self._length(len(rest), at)
            piece, rest = rest[:length], rest[length:]
            if length == 1:
                self._decode_at(int(piece[0]), at)
            else:
                self._call(PREFILL if self.offer.dynamic else f"{PREFILL}_{length}", length).run(piece, at)
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
