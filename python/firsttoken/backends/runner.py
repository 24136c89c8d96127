"""One small interface over both runtimes: load, prefill, decode, reset.

This module and those of the .tflite runner also run inside the emulated ARM machine, where they import nothing heavy.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from firsttoken.errors import FirstTokenError

if TYPE_CHECKING:
    from firsttoken.bundle.chat_facts import Chat
    from firsttoken.bundle.manifest import TokenizerFacts

MASKED = -30000.0  # added to a score that must not count; inside FP16's range even on top of a real score


class ModelFacts(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...


class Lengths(Protocol):
    @property
    def cache_length(self) -> int: ...
    @property
    def prefill_chunk(self) -> int: ...


class RunnerFacts(Protocol):
    """What a runner, and who generates with it, read of a manifest; lengths are in tokens."""

    @property
    def checkpoint(self) -> ModelFacts: ...
    @property
    def target(self) -> Lengths: ...
    @property
    def tokenizer(self) -> TokenizerFacts: ...
    @property
    def chat(self) -> Chat | None: ...


class KeptPrefix(Protocol):
    """Tokens that a bundle keeps the cache's rows of (`run.prefix.Prefix`)."""

    tokens: np.ndarray

    @property
    def system(self) -> str: ...
    def give(self, runner: Runner) -> None: ...


class Runner(ABC):
    """A loaded artifact with its KV cache.

    ``position`` counts the tokens already in the cache. `prefill` and `decode` return the logits that predict the
    next token, float32 ``[vocab_size]``; the array may be reused by the next call, so copy it to keep it.
    """

    def __init__(self, manifest: RunnerFacts) -> None:
        self.manifest = manifest
        self.vocab_size = manifest.checkpoint.vocab_size
        self.cache_length = manifest.target.cache_length
        self.prefill_chunk = manifest.target.prefill_chunk
        self.position = 0
        self._held = np.zeros(0, np.int32)  # which tokens are in the cache, as far as the position
        self.all_can_be_taken_back = True
        """Whether the cache holds what it needs of every position; of a convolution's inputs there are the last alone."""
        self.prefix: KeptPrefix | None = None
        """A system prompt whose rows need not be computed."""
        self.packed_for: str | None = None
        """The kind of CPU whose packed weights were taken out of the bundle (`bundle.packed_facts`), where they were."""
        self.notes: list[str] = []
        """What a user should hear of how it was loaded."""
        self.draft_tokens = 0
        """How many guessed tokens `check` takes behind one that is known; 0 where the artifact has nothing for it."""
        self._checked = np.zeros(0, np.int32)  # what `check` has seen and `accept` has not taken

    def prefill(self, tokens: Sequence[int] | np.ndarray) -> np.ndarray:
        """Appends ``tokens`` to the cache, in chunks where needed, and returns the last one's logits.

        Raises `FirstTokenError` for no tokens, a token outside the vocabulary, or more tokens than the cache has room for.
        """
        whole = np.asarray(tokens, np.int32).reshape(-1)
        self._check(whole)  # there is at least one
        while len(whole):
            piece, whole = np.split(whole, [self._piece()])
            logits = self._prefill(piece)
            self._hold(piece)
        return logits

    def decode(self, token: int) -> np.ndarray:
        """Appends one token and returns its logits. Raises `FirstTokenError` when the cache is full."""
        tokens = np.asarray([token], np.int32)
        self._check(tokens)
        logits = self._decode(int(token))
        self._hold(tokens)
        return logits

    def check(self, tokens: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the logits of each of ``tokens``, float32 ``[tokens, vocab_size]``: one and at most ``draft_tokens`` guesses of what follows it.

        The cache holds what it held until `accept` takes as many of them as are right. Raises `FirstTokenError` as `prefill`, and for too many.
        """
        whole = np.asarray(tokens, np.int32).reshape(-1)
        self._check(whole)
        if len(whole) > 1 + self.draft_tokens:
            raise FirstTokenError(f"{len(whole) - 1} drafted tokens; this artifact checks {self.draft_tokens}")
        logits = self._check_draft(whole)
        self._checked = whole
        return logits

    def accept(self, count: int = 1) -> None:
        """Appends the next ``count`` of the tokens that `check` was given to the cache; nothing else may be called between the two."""
        if not 0 <= count <= len(self._checked):
            raise AssertionError(f"{count} of {len(self._checked)} checked tokens")
        self._accept(count)
        self._hold(self._checked[:count])
        self._checked = self._checked[count:]

    def keep_prefix(self, tokens: Sequence[int] | np.ndarray) -> int:
        """Keeps of the cache what ``tokens`` begin with, forgets the rest, and returns how many that are: what is left to `prefill`.

        At least the last token is left, since its logits are wanted.
        """
        wanted = np.asarray(tokens, np.int32).reshape(-1)
        same = self._keepable(common(self._held[: self.position], wanted))
        if self.prefix is not None and self.held_types and common(self.prefix.tokens, wanted) == len(self.prefix.tokens) > same:
            self.prefix.give(self)
            same = self.position
        if same < self.position:
            self._forget(same)
            self.position = same
        return same

    @property
    def held_types(self) -> dict[str, np.dtype]:
        """The types of `held_arrays` by name; none where the runtime keeps its cache to itself."""
        return {}

    @property
    def held_tokens(self) -> np.ndarray:
        """The tokens in the cache, int32 ``[position]``."""
        return self._held[: self.position].copy()

    def held_arrays(self) -> dict[str, np.ndarray] | None:
        """What the cache holds of these tokens, copied, for `hold_again`; None where the runtime keeps it to itself."""
        return None

    def hold_again(self, tokens: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        """Puts back what `held_tokens` and `held_arrays` gave, of this runner or another of the same artifact; what was held is forgotten.

        Raises `FirstTokenError` for arrays of other names, shapes or types than these tokens have here, and for values that are no numbers.
        """
        raise FirstTokenError(f"the runtime of {self.manifest.checkpoint.name!r} keeps its cache to itself; prefill the tokens")

    def _put_back(self, tokens: np.ndarray, arrays: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> None:
        """Copies ``arrays`` into ``wanted``, parts of an empty cache with room for ``tokens``, and takes these as held. Raises `FirstTokenError` before anything is copied."""
        self._check(tokens)
        for name in sorted(wanted.keys() | arrays.keys()):
            own, given = wanted.get(name), arrays.get(name)
            if own is None or given is None or own.shape != given.shape or own.dtype != given.dtype:
                shown = ["none" if one is None else f"{one.dtype} {list(one.shape)}" for one in (given, own)]
                raise FirstTokenError(f"cache of {len(tokens)} tokens: {name!r} is {shown[0]}; expected {shown[1]}")
            if not np.isfinite(given).all():
                raise FirstTokenError(f"cache of {len(tokens)} tokens: {name!r} holds NaN or infinite values")
        for name, own in wanted.items():
            own[...] = arrays[name]
        self._hold(tokens)

    def _keepable(self, length: int) -> int:
        """How many of the first ``length`` tokens the cache can go on from."""
        return length if self.all_can_be_taken_back or length == self.position else 0

    def _forget(self, length: int) -> None:  # noqa: B027  most caches need no more than that the position goes back
        """Forgets what the cache holds from row ``length`` on."""

    def _hold(self, tokens: np.ndarray) -> None:
        end = self.position + len(tokens)
        if end > len(self._held):
            self._held = np.concatenate([self._held[: self.position], np.zeros(max(end, 2 * len(self._held)) - self.position, np.int32)])
        self._held[self.position : end] = tokens
        self.position = end

    def _check(self, tokens: np.ndarray) -> None:
        if not len(tokens):
            raise FirstTokenError("the prompt is empty; give at least one token")
        if self.position + len(tokens) > self.cache_length:
            raise FirstTokenError(
                f"{self.position + len(tokens)} tokens do not fit the cache of {self.cache_length}; shorten the prompt or export with a longer --cache-length"
            )
        if tokens.min() < 0 or tokens.max() >= self.vocab_size:
            bad = next(int(t) for t in tokens if not 0 <= t < self.vocab_size)
            raise FirstTokenError(f"token {bad} is outside the model's vocabulary of {self.vocab_size}")

    def _piece(self) -> int:
        """How many tokens the next call of `_prefill` takes at most."""
        return self.prefill_chunk

    @abstractmethod
    def _prefill(self, tokens: np.ndarray) -> np.ndarray:
        """Runs one chunk of at most ``prefill_chunk`` tokens at ``self.position``."""

    @abstractmethod
    def _decode(self, token: int) -> np.ndarray:
        """Runs one token at ``self.position``."""

    def _check_draft(self, tokens: np.ndarray) -> np.ndarray:
        """Runs as many tokens as `check` takes at ``self.position``; the cache keeps nothing that counts."""
        raise AssertionError("a runner with draft_tokens has it")

    def _accept(self, count: int) -> None:  # noqa: B027  where rows beyond the position do not count, nothing is to be done
        """Takes the rows of the next ``count`` checked tokens into the cache at ``self.position``."""

    def reset(self) -> None:
        """Forgets the cache; the next call starts at position 0."""
        self.position = 0

    def close(self) -> None:  # noqa: B027  a runtime that frees itself has nothing to do
        """Frees the runtime's memory."""


def common(held: np.ndarray, wanted: np.ndarray) -> int:
    """How many tokens both begin with, without the last of ``wanted``."""
    most = max(0, min(len(held), len(wanted) - 1))
    differs = np.flatnonzero(held[:most] != wanted[:most])
    return int(differs[0]) if len(differs) else most


def default_threads() -> int:
    """Threads a runner takes when none are asked for: the usable cores, 4 at most (what phones have in fast cores)."""
    return min(4, len(os.sched_getaffinity(0)))
