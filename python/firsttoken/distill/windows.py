"""Documents as windows of equal length, every label either a token or exactly ignored.

The documents of a domain are laid end to end with a separator and cut into windows (packing), so that no computation
goes into padding but in the very last window. Tokens of one document can see the end of the one before it, unless the windows
have ``positions``: transformers' masks keep apart what does not count on from the position before.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from firsttoken.distill.losses.divergence import IGNORED
from firsttoken.errors import FirstTokenError

ROWS = 4096  # windows looked at together, where there may be more than memory holds
NO_TOKENS = "the data holds no tokens; give files with text"
NO_LABELS = "the data holds no label: in chats only what the assistant says is one (answers_only = false takes all)"


@dataclass(frozen=True)
class Windows:
    """``tokens`` and ``labels`` are int32 ``[windows, length]``; the label of a position is its own token or -100.

    As everywhere in transformers, position ``t`` predicts label ``t + 1``. ``domain`` is int32 ``[windows]`` into
    ``domains``; ``source`` names the document each window begins in.
    """

    tokens: np.ndarray
    labels: np.ndarray
    domain: np.ndarray
    domains: tuple[str, ...]
    source: Sequence[str]
    left_out: tuple[str, ...] = ()
    """What is wrong with the records that were left out."""
    positions: np.ndarray | None = None
    """int32 ``[windows, length]``, from 0 in every document and in every window; none where documents see each other."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def predicted(self) -> int:
        """Positions that count."""
        return sum(int((self.labels[start : start + ROWS, 1:] != IGNORED).sum()) for start in range(0, len(self), ROWS))

    def fingerprint(self) -> str:
        """SHA-256 over everything that training sees."""
        digest = hashlib.sha256(f"{self.tokens.shape}{self.domains}".encode())
        for array in (self.tokens, self.labels, self.domain, *(() if self.positions is None else (self.positions,))):
            for start in range(0, len(array), ROWS):
                digest.update(np.ascontiguousarray(array[start : start + ROWS]).data)
        return digest.hexdigest()

    def first(self, count: int) -> "Windows":
        """The first ``count`` windows, or all."""
        return self.chosen(np.arange(min(count, len(self))))

    def chosen(self, rows: np.ndarray) -> "Windows":
        """The windows of these numbers."""
        positions = None if self.positions is None else self.positions[rows]
        sources = tuple(self.source[int(row)] for row in rows)
        return Windows(self.tokens[rows], self.labels[rows], self.domain[rows], self.domains, sources, positions=positions)


@dataclass(frozen=True)
class Encoded:
    """A document's tokens, which of them are labels (boolean, same length), its domain, where it came from, and whether it ends by itself."""

    tokens: list[int]
    counted: list[bool]
    domain: str
    source: str
    ended: bool = False


def within_windows(positions: np.ndarray) -> np.ndarray:
    """Positions in documents ``[windows, length]``, counted from the window's begin where the document began before it."""
    return np.minimum(positions, np.arange(positions.shape[1])).astype(np.int32)


def pack(documents: list[Encoded], length: int, separator: int, apart: bool = False) -> Windows:
    """Lays documents end to end, ``separator`` after each (itself a label where its document's last token is, unless that one has ended by itself), and cuts.

    The last window of a domain is filled with separators whose labels are ignored. ``apart`` gives positions, and the
    first token of a document is then no label: it would be predicted from the document before. Raises `FirstTokenError`
    where nothing would be left to learn.
    """
    domains = tuple(dict.fromkeys(document.domain for document in documents))
    tokens, labels, numbers, sources, places_in = [], [], [], [], []
    for number, domain in enumerate(domains):
        chosen = [document for document in documents if document.domain == domain and document.tokens]
        stream = [np.array([*d.tokens, separator], np.int32) for d in chosen]
        counted = [np.array([*d.counted, d.counted[-1] and not d.ended], bool) for d in chosen]
        if not stream:
            continue
        starts = np.cumsum([0, *map(len, stream)])[:-1]
        flat, flags = np.concatenate(stream), np.concatenate(counted)
        missing = -len(flat) % length
        flat = np.pad(flat, (0, missing), constant_values=separator)
        flags = np.pad(flags, (0, missing))
        rows = len(flat) // length
        place = np.concatenate([np.arange(size) for size in [*map(len, stream), missing]])
        places_in.append(within_windows(place.reshape(rows, length)))
        if apart:
            flags &= place > 0
        tokens.append(flat.reshape(rows, length))
        labels.append(np.where(flags, flat, IGNORED).astype(np.int32).reshape(rows, length))
        numbers.append(np.full(rows, number, np.int32))
        places = np.searchsorted(starts, np.arange(rows) * length, side="right") - 1
        sources += [chosen[number].source for number in places]
    if not tokens:
        raise FirstTokenError(NO_TOKENS)
    positions = np.concatenate(places_in) if apart else None
    windows = Windows(np.concatenate(tokens), np.concatenate(labels), np.concatenate(numbers), domains, tuple(sources), positions=positions)
    useful = (windows.labels[:, 1:] != IGNORED).any(axis=1)
    if not useful.any():
        raise FirstTokenError(NO_LABELS)
    return windows.chosen(np.flatnonzero(useful))


def order(count: int, position: int, seed: int) -> tuple[int, int]:
    """Returns ``(epoch, index)`` of the ``position``-th window that training sees: every epoch in an order of its own."""
    epoch, place = divmod(position, count)
    return epoch, int(_permutation(count, epoch, seed)[place])


_last: tuple[tuple[int, int, int], np.ndarray] | None = None


def _permutation(count: int, epoch: int, seed: int) -> np.ndarray:
    # kept for the next call: an epoch asks count times for the same one
    global _last
    key = (count, epoch, seed)
    if _last is None or _last[0] != key:
        _last = (key, np.random.default_rng([seed, epoch]).permutation(count))
    return _last[1]
