"""Which memory pages native libraries are made for, read from the libraries themselves.

Since Android 15 a phone may have pages of 16 KiB. It loads a library only if each of its LOAD segments is aligned to that, and maps it
straight from the APK only if the library begins on such a page there.
"""

import struct
import zipfile
from pathlib import Path

PAGE = 16384  # the largest page of Android phones
LOAD = 1


def load_alignment(library: bytes) -> int:
    """Returns the smallest alignment of a 64-bit little-endian ELF file's LOAD segments; 0 for a file that is none, or has none."""
    if len(library) < 64 or library[:6] != b"\x7fELF\x02\x01":
        return 0
    (table,) = struct.unpack_from("<Q", library, 32)
    size, count = struct.unpack_from("<HH", library, 54)
    places = [table + size * n for n in range(count)]
    if size < 56 or table + size * count > len(library):
        return 0
    segments = [(struct.unpack_from("<I", library, at)[0], struct.unpack_from("<Q", library, at + 48)[0]) for at in places]
    return min((alignment for kind, alignment in segments if kind == LOAD), default=0)


def made_for_smaller(apk: Path) -> dict[str, int]:
    """Returns the native libraries that phones with pages of 16 KiB do not load, by name, with the alignment they have."""
    with zipfile.ZipFile(apk) as archive:
        names = [name for name in archive.namelist() if name.endswith(".so")]
        found = {name: load_alignment(archive.read(name)) for name in names}
    return {name: alignment for name, alignment in found.items() if alignment % PAGE or not alignment}


def misplaced(apk: Path) -> list[str]:
    """Returns the native libraries that are compressed or do not begin on a page of 16 KiB."""
    with zipfile.ZipFile(apk) as archive, apk.open("rb") as stream:
        bad = []
        for entry in archive.infolist():
            if entry.filename.endswith(".so"):
                stream.seek(entry.header_offset + 26)
                name, extra = struct.unpack("<HH", stream.read(4))
                if entry.compress_type != zipfile.ZIP_STORED or (entry.header_offset + 30 + name + extra) % PAGE:
                    bad.append(entry.filename)
        return bad


def verdict(apk: Path) -> str:
    """One line: on which phones the native libraries load."""
    small = made_for_smaller(apk)
    if not small:
        return "native libraries: load on phones with memory pages of 4 KiB and of 16 KiB"
    listed = ", ".join(f"{name.removeprefix('lib/')} ({alignment} bytes)" for name, alignment in sorted(small.items()))
    return f"native libraries: made for smaller memory pages than 16 KiB, so phones that are set to those do not load them: {listed}; all others do"
