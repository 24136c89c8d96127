"""Where a .tflite lies: a file of its own, or a part of a container such as a .litertlm."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from firsttoken.plain_file import open_plain


@dataclass(frozen=True)
class Section:
    """``size`` bytes of ``path`` from byte ``start`` on; offsets inside the .tflite count from there."""

    path: Path
    start: int
    size: int

    def __str__(self) -> str:
        return str(self.path)

    def open(self) -> BinaryIO:
        """Opens the file at the section's first byte. Raises `OSError`."""
        stream = open_plain(self.path)
        stream.seek(self.start)
        return stream

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` of the section on, or what there is of them. Raises `OSError`."""
        with self.open() as stream:
            stream.seek(self.start + offset)
            return stream.read(max(0, min(size, self.size - offset)))


def section_of(artifact: "Path | Section") -> Section:
    """The whole of a file, or the section itself. Raises `OSError` for a file that is not there."""
    return artifact if isinstance(artifact, Section) else Section(artifact, 0, os.stat(artifact).st_size)
