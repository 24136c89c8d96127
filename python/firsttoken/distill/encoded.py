"""Encoded training data in files: made once, mapped by every process of a run, so that memory stays the same however much of it there is.

A folder holds ``tokens`` and ``labels`` (int32 ``[windows, length]``, little endian), ``domain`` (int32 ``[windows]``), ``sources`` (a line of UTF-8 for each
window) with ``lines`` (int64 offsets of these), ``positions`` (int32 ``[windows, length]``) where documents are kept apart, and ``facts.json``, written last. The windows are those of `windows.pack`.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, overload

import numpy as np

from firsttoken.checkpoint import read_json
from firsttoken.distill.losses.divergence import IGNORED
from firsttoken.distill.windows import NO_LABELS, NO_TOKENS, Encoded, Windows, within_windows
from firsttoken.errors import FirstTokenError

FACTS = "facts.json"
LOCK = ".encoding.lock"
ROWS = 1024  # windows looked at together


def encoded_once(folder: Path, key: str, write: Callable[[Path], None]) -> Windows:
    """Returns the windows that ``write`` puts into an empty folder, or put there for the same ``key`` (hexadecimal) before; of others nothing is kept.

    One process makes them, others wait. Raises `FirstTokenError` where they cannot be written.
    """
    place = folder / f"encoded-{key[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / LOCK, "ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if not (place / FACTS).is_file():
                for older in [*folder.glob("encoded-*"), *folder.glob(".encoded-*")]:
                    shutil.rmtree(older)
                partial = folder / f".encoded-{os.getpid()}"
                partial.mkdir()
                try:
                    write(partial)
                    os.replace(partial, place)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
        return open_encoded(place)
    except OSError as error:
        raise FirstTokenError(f"{folder}: encoded data cannot be kept here ({error.strerror}); free space and run the same command again, or choose another output with -o") from None  # fmt: skip


def open_encoded(folder: Path) -> Windows:
    """Maps the windows of a folder."""
    facts = read_json(folder / FACTS, "it was written with the data")

    def mapped(name: str, *shape: int) -> np.ndarray:
        # private: a reader that writes changes nothing but its own copy
        return np.memmap(folder / name, "<i4", "c", shape=shape)

    rows, length = facts["windows"], facts["length"]
    return Windows(
        mapped("tokens", rows, length), mapped("labels", rows, length), mapped("domain", rows),
        tuple(facts["domains"]), Lines(folder, rows), tuple(facts["left_out"]), mapped("positions", rows, length) if facts.get("apart") else None,
    )  # fmt: skip


class Lines(Sequence[str]):
    """Lines of a file, read when they are asked for."""

    def __init__(self, folder: Path, count: int) -> None:
        self._text, self._ends = folder / "sources", np.memmap(folder / "lines", "<i8", "r", shape=(count,))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return [self[n] for n in range(*place.indices(len(self)))]
        number = range(len(self))[place]
        begin = int(self._ends[number - 1]) if number else 0
        with open(self._text, "rb") as stream:
            stream.seek(begin)
            return stream.read(int(self._ends[number]) - begin).decode()


class _Domain:
    """One domain's stream of tokens, as far as it is written."""

    def __init__(self, folder: Path, number: int, files: ExitStack) -> None:
        self.paths = [folder / f"{name}.{number}" for name in ("tokens", "labels", "sources", "positions")]
        self.tokens, self.labels, self.sources, self.positions = (files.enter_context(path.open("w+b")) for path in self.paths)
        self.written = 0  # tokens
        self.windows = 0  # that begin before


class WindowWriter:
    """Packs documents as they come into ``folder``; what `finish` leaves there is opened by `open_encoded`."""

    def __init__(self, folder: Path, length: int, separator: int, apart: bool = False) -> None:
        self.folder, self.length, self.separator, self.apart = folder, length, separator, apart
        self._files = ExitStack()
        self._domains: dict[str, _Domain] = {}

    def add(self, piece: Encoded) -> None:
        """Adds a document, with a separator behind it."""
        if piece.domain not in self._domains:
            self._domains[piece.domain] = _Domain(self.folder, len(self._domains), self._files)
        domain = self._domains[piece.domain]
        if not piece.tokens:
            return
        counted = np.array([*piece.counted, piece.counted[-1] and not piece.ended], bool)
        if self.apart:
            counted[0] = False
            domain.positions.write(np.arange(len(counted), dtype="<i4").tobytes())
        self._append(domain, np.array([*piece.tokens, self.separator], "<i4"), counted, piece.source)

    def _append(self, domain: _Domain, tokens: np.ndarray, counted: np.ndarray, source: str) -> None:
        domain.tokens.write(tokens.tobytes())
        domain.labels.write(np.where(counted, tokens, IGNORED).astype("<i4").tobytes())
        domain.written += len(tokens)
        begun = -(-domain.written // self.length)
        domain.sources.write(f"{source.translate({10: ' '})}\n".encode() * (begun - domain.windows))
        domain.windows = begun

    def finish(self, left_out: Sequence[str] = ()) -> None:
        """Writes the windows of all domains, one domain after the other, those without a label left out. Raises `FirstTokenError` where none is left."""
        with self._files, ExitStack() as files:
            tokens, labels, domains, sources, lines = (
                files.enter_context(open(self.folder / name, "wb")) for name in ("tokens", "labels", "domain", "sources", "lines")
            )
            positions = files.enter_context(open(self.folder / "positions", "wb")) if self.apart else None
            if not any(domain.written for domain in self._domains.values()):
                raise FirstTokenError(NO_TOKENS)
            count = 0
            for number, domain in enumerate(self._domains.values()):
                self._fill(domain)
                for given, learned, named, placed in self._windows(domain):
                    kept = np.flatnonzero((learned[:, 1:] != IGNORED).any(axis=1))
                    if positions is not None:
                        positions.write(within_windows(placed)[kept].tobytes())
                    tokens.write(given[kept].tobytes())
                    labels.write(learned[kept].tobytes())
                    domains.write(np.full(len(kept), number, "<i4").tobytes())
                    for place in kept:
                        sources.write(named[place])
                        lines.write(np.int64(sources.tell()).tobytes())
                    count += len(kept)
            if not count:
                raise FirstTokenError(NO_LABELS)
        for domain in self._domains.values():
            for path in domain.paths:
                path.unlink()
        facts = {"windows": count, "length": self.length, "domains": list(self._domains), "left_out": list(left_out), "apart": self.apart}
        (self.folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")

    def _fill(self, domain: _Domain) -> None:
        """Fills the last window with separators that are no labels."""
        missing = -domain.written % self.length
        domain.tokens.write(np.full(missing, self.separator, "<i4").tobytes())
        domain.labels.write(np.full(missing, IGNORED, "<i4").tobytes())
        if self.apart:
            domain.positions.write(np.arange(missing, dtype="<i4").tobytes())
        domain.written += missing

    def _windows(self, domain: _Domain) -> Iterator[tuple[np.ndarray, np.ndarray, list[bytes], np.ndarray]]:
        """Yields some windows of a domain at a time: tokens, labels, their sources without the newline, and positions in the document."""
        for stream in (domain.tokens, domain.labels, domain.sources, domain.positions):
            stream.seek(0)
        for start in range(0, domain.written // self.length, ROWS):
            rows = min(ROWS, domain.written // self.length - start)
            named = [domain.sources.readline()[:-1] for _ in range(rows)]
            placed = self._read(domain.positions, rows) if self.apart else np.empty((0, self.length), "<i4")
            yield self._read(domain.tokens, rows), self._read(domain.labels, rows), named, placed

    def _read(self, stream: BinaryIO, rows: int) -> np.ndarray:
        return np.frombuffer(stream.read(4 * rows * self.length), "<i4").reshape(rows, self.length)
