"""A file on a phone, read where it lies: for an APK of which a few kilobytes matter, and no more are fetched."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from firsttoken.device.adb import Adb

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK = 1 << 15  # bytes asked for at a time


class PhoneFile(io.RawIOBase):
    """The file at ``place``, which does not change meanwhile. Raises `OSError` where the phone does not give it."""

    def __init__(self, adb: Adb, place: str) -> None:
        self.adb, self.place, self.at = adb, place, 0
        self.blocks: dict[int, bytes] = {}
        text = adb.shell("stat -c %s {}", place).text.strip()
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise OSError(f"the phone does not tell the size of {place}")
        self.size = int(text)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence])
        return self.at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        inside = self.at % BLOCK
        piece = self._block(self.at // BLOCK)[inside : inside + len(view)] if self.at < self.size else b""
        view[: len(piece)] = piece
        self.at += len(piece)
        return len(piece)

    def _block(self, number: int) -> bytes:
        if number not in self.blocks:
            # as text, since adb's shell may change line ends
            said = self.adb.shell("od -v -A n -t x1 -j {} -N {} {}", number * BLOCK, BLOCK, self.place).text
            try:
                block = bytes.fromhex(said)
            except ValueError:
                block = b""
            if len(block) != min(BLOCK, self.size - number * BLOCK):
                raise OSError(f"the phone does not give {self.place}")
            self.blocks[number] = block
        return self.blocks[number]


def open_phone_file(adb: Adb, place: str) -> io.BufferedReader:
    """Opens a file on a phone. Raises `OSError` where the phone does not give it, `DeviceGone` where it does not answer any more."""
    return io.BufferedReader(PhoneFile(adb, place))
