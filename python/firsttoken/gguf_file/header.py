"""The header of a GGUF file: metadata and where each tensor lies. Nothing in it is believed before it is checked.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian.
"""

import math
import os
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Never

import numpy as np

from firsttoken import plain_file
from firsttoken.errors import FirstTokenError
from firsttoken.gguf_file.blocks import BLOCKS, type_name
from firsttoken.safe_text import visible
from firsttoken.units import readable

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_HEADER_BYTES = 256 << 20  # the largest known vocabularies take about 12 MiB
MOST_ENTRIES = 1 << 16  # of metadata, and tensors
MOST_ITEMS = 1 << 22  # of a list, as of a vocabulary
MOST_NAME_BYTES = 1 << 10
MOST_DIMENSIONS = 4  # ggml's own limit
LARGEST = 1 << 63
DEFAULT_ALIGNMENT = 32

# Kind of value -> how it is stored. 8 is text and 9 a list.
NUMBERS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"}
TEXT, LIST = 8, 9


@dataclass(frozen=True)
class StoredBlocks:
    """Where one tensor lies: its dimensions with the rows first, its storage type, the absolute place and length in bytes."""

    shape: tuple[int, ...]
    dtype: str
    offset: int
    length: int


@dataclass(frozen=True)
class Header:
    """``metadata`` by key: numbers, truths, texts, lists of texts, and numeric lists as arrays. ``tensors`` by their names in the file."""

    metadata: dict[str, Any]
    tensors: dict[str, StoredBlocks]
    bytes_read: int


def read_header(path: Path) -> Header:
    """Reads and checks everything but the weights. Raises `FirstTokenError` naming what is wrong."""
    try:
        with plain_file.open_plain(path) as stream:
            return _Reader(path, stream).header()
    except OSError as error:
        raise FirstTokenError(f"{path}: cannot be read ({visible(plain_file.why(error))})") from None


class _Reader:
    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path, self.stream = path, stream
        self.size = os.fstat(stream.fileno()).st_size
        self.most = min(self.size, MOST_HEADER_BYTES)
        self.place = 0

    def refuse(self, what: str, then: str = "the file is corrupted, download it again") -> Never:
        raise FirstTokenError(f"{self.path}: {what}; {then}")

    def take(self, count: int) -> bytes:
        if self.place + count > self.most:
            if self.most < self.size:
                self.refuse(f"its header has more than {readable(MOST_HEADER_BYTES)}", "that is no language model's")
            self.refuse(f"truncated, its header goes on after byte {self.size}, where the file ends")
        raw = self.stream.read(count)
        if len(raw) != count:
            self.refuse("became shorter while it was read")
        self.place += count
        return raw

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def count(self, what: str, most: int) -> int:
        found = self.number("Q")
        if found > most:
            self.refuse(f"claims {found} {what}; expected {most} at most")
        return found

    def text(self, what: str, most: int) -> str:
        raw = self.take(self.count(f"bytes of {what}", most))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self.refuse(f"{what} {visible(repr(raw[:40]))} is not UTF-8")

    def header(self) -> Header:
        if self.size < len(MAGIC) or self.take(len(MAGIC)) != MAGIC:
            self.refuse("does not begin with GGUF", "expected llama.cpp's GGUF file")
        version = self.number("I")
        if version not in VERSIONS:
            big = " (a file for big-endian machines)" if version >> 16 else ""
            self.refuse(f"is GGUF version {version}{big}; expected 2 or 3", "convert the checkpoint again with a current llama.cpp")
        tensor_count, entries = self.count("tensors", MOST_ENTRIES), self.count("metadata entries", MOST_ENTRIES)
        metadata: dict[str, Any] = {}
        for _ in range(entries):
            key = self.text("a key", MOST_NAME_BYTES)
            if key in metadata:
                self.refuse(f"metadata key {visible(key)!r} appears twice")
            metadata[key] = self.value(key, self.number("I"))
        places = [self.tensor_place() for _ in range(tensor_count)]
        return Header(metadata, self.placed(places, self.alignment(metadata)), self.place)

    def value(self, key: str, kind: int, inside: bool = False) -> Any:
        if kind in NUMBERS:
            dtype = np.dtype(NUMBERS[kind])
            return np.frombuffer(self.take(dtype.itemsize), dtype)[0].item()
        if kind == TEXT:
            return self.text(f"the text {visible(key)!r}", MOST_HEADER_BYTES)
        if kind != LIST or inside:
            self.refuse(
                f"metadata {visible(key)!r} is of the kind {kind}{' inside a list' if inside else ''}; expected a number, a text or a list of these"
            )
        kind, items = self.number("I"), self.count(f"items of {visible(key)!r}", MOST_ITEMS)
        if kind in NUMBERS:
            dtype = np.dtype(NUMBERS[kind])
            return np.frombuffer(self.take(items * dtype.itemsize), dtype)
        return [self.value(key, kind, inside=True) for _ in range(items)]

    def alignment(self, metadata: dict[str, Any]) -> int:
        found = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if type(found) is not int or not 1 <= found <= 1 << 20 or found & (found - 1):
            self.refuse(f"general.alignment is {visible(repr(found))}; expected a power of two")
        return found

    def tensor_place(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.text("a tensor's name", MOST_NAME_BYTES)
        dimensions = self.number("I")
        if not 1 <= dimensions <= MOST_DIMENSIONS:
            self.refuse(f"tensor {visible(name)!r} has {dimensions} dimensions; expected 1 to {MOST_DIMENSIONS}")
        shape = tuple(self.number("Q") for _ in range(dimensions))[::-1]  # stored with the fastest first
        return name, shape, self.number("I"), self.number("Q")

    def placed(self, places: list[tuple[str, tuple[int, ...], int, int]], alignment: int) -> dict[str, StoredBlocks]:
        """Checks that every tensor fills whole blocks, lies in the file and shares no byte with another."""
        base = -(-self.place // alignment) * alignment
        found: dict[str, StoredBlocks] = {}
        for name, shape, number, offset in places:
            known = visible(name)
            if name in found:
                self.refuse(f"tensor {known!r} appears twice")
            kind = type_name(number)
            if kind not in BLOCKS:
                self.refuse(
                    f"tensor {known!r} is stored as {kind}, which is not supported; expected one of {', '.join(BLOCKS)}",
                    "convert the checkpoint to one of these",
                )
            values, size = BLOCKS[kind]
            if any(not 0 < n < LARGEST for n in shape) or math.prod(shape) >= LARGEST or offset >= LARGEST:
                self.refuse(f"tensor {known!r} has an impossible shape or place {visible(repr(shape))}, {offset}")
            if shape[-1] % values:
                self.refuse(f"tensor {known!r} has rows of {shape[-1]} values; {kind} is stored in blocks of {values}")
            if offset % alignment:
                self.refuse(f"tensor {known!r} lies at {offset}, which is no multiple of {alignment}")
            length = math.prod(shape) // values * size
            if base + offset + length > self.size:
                self.refuse(
                    f"truncated, tensor {known!r} ends at byte {base + offset + length} of a file of {self.size}", "download it again"
                )
            found[name] = StoredBlocks(shape, kind, base + offset, length)
        ordered = sorted((t.offset, t.offset + t.length, name) for name, t in found.items())
        for (_, end, name), (begin, _, other) in pairwise(ordered):
            if begin < end:
                self.refuse(f"tensors {visible(name)!r} and {visible(other)!r} share bytes")
        return found
