"""The strings in an APK's ``resources.arsc``, the table that Android itself looks them up in.

The format is that of AOSP's ``ResourceTypes.h``: chunks of a type, a header's size and a size. An APK may come from anyone, and from a
phone: whatever is not as expected is a `ValueError`, and no length is believed before it was compared with what is there.
"""

import struct
from collections.abc import Collection, Iterator

TABLE, STRING_POOL, PACKAGE, TYPE = 0x0002, 0x0001, 0x0200, 0x0201
UTF8 = 1 << 8  # of a pool's flags; else UTF-16
COMPLEX = 1  # of an entry's flags: an array, a style, …
STRING = 3  # a value's type: its data is a number in the table's string pool
ABSENT = 0xFFFFFFFF  # no entry of this number in this configuration
LONGEST_STRING = 4096  # bytes, of those that are looked at


def string_resources(table: bytes, names: Collection[str]) -> dict[str, str]:
    """Returns the values of the string resources called ``names``, those that are there. Raises `ValueError` for what is no table."""
    found: dict[str, str] = {}
    try:
        kind, header, size = _chunk(table, 0)
        if kind != TABLE:
            raise ValueError("it does not begin as a resource table")
        values: _Pool | None = None
        for kind, start, end in _chunks(table, header, size):
            if kind == STRING_POOL:
                values = _Pool(table, start, end)
            elif kind == PACKAGE:
                for name, number in _package(table, start, end):
                    if name in names and name not in found and values is not None:
                        found[name] = values[number]
    except (struct.error, IndexError) as error:
        raise ValueError(f"the resource table is damaged ({error})") from None
    return found


def _chunk(table: bytes, at: int) -> tuple[int, int, int]:
    """The type of the chunk at ``at``, its header's size and its own."""
    kind, header, size = struct.unpack_from("<HHI", table, at)
    if not 8 <= header <= size <= len(table) - at:
        raise ValueError(f"the chunk at byte {at} is longer than the resource table")
    return kind, header, size


def _chunks(table: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Type, first byte and end of every chunk from ``at`` on."""
    while at + 8 <= end:
        kind, _, size = _chunk(table, at)
        if at + size > end:
            raise ValueError(f"the chunk at byte {at} is longer than the one around it")
        yield kind, at, at + size
        at += size


class _Pool:
    """A chunk of strings; each is read when it is asked for."""

    def __init__(self, table: bytes, start: int, end: int) -> None:
        _, header, _ = _chunk(table, start)
        count, _, flags, strings = struct.unpack_from("<IIII", table, start + 8)
        self.offsets = struct.unpack_from(f"<{count}I", table, start + header)
        self.is_utf8, self.table, self.first, self.end = bool(flags & UTF8), table, start + strings, end

    def __getitem__(self, number: int) -> str:
        """Behind a string's length; one that does not fit a unit's lower half takes two units."""
        at = self.first + self.offsets[number]
        if self.is_utf8:
            _, at = _length(self.table, at, "B")  # in characters
            length, at = _length(self.table, at, "B")
        else:
            length, at = _length(self.table, at, "<H")
            length *= 2
        if length > LONGEST_STRING or at + length > self.end:
            raise ValueError(f"a string of {length} bytes, expected at most {LONGEST_STRING} and that it ends with its pool")
        # what lies beyond 16 bits is written as Java does it in UTF-8, which Python does not read
        return self.table[at : at + length].decode("utf-8" if self.is_utf8 else "utf-16-le", errors="replace")


def _length(data: bytes, at: int, unit: str) -> tuple[int, int]:
    size = struct.calcsize(unit)
    (first,) = struct.unpack_from(unit, data, at)
    high = 1 << (8 * size - 1)
    if not first & high:
        return first, at + size
    (second,) = struct.unpack_from(unit, data, at + size)
    return (first & (high - 1)) << (8 * size) | second, at + 2 * size


def _package(table: bytes, start: int, end: int) -> Iterator[tuple[str, int]]:
    """Every string resource: its name, and its value's number in the table's pool."""
    _, header, _ = _chunk(table, start)
    (keys,) = struct.unpack_from("<I", table, start + 276)  # behind the package's number and its name of 128 UTF-16 units, and two more
    kind, _, size = _chunk(table, start + keys)
    if kind != STRING_POOL:
        raise ValueError("a package without the names of its resources")
    names = _Pool(table, start + keys, start + keys + size)
    for kind, at, _ in _chunks(table, start + header, end):
        if kind == TYPE:
            for key, number in _strings_of_type(table, at):
                yield names[key], number


def _strings_of_type(table: bytes, at: int) -> Iterator[tuple[int, int]]:
    _, header, _ = _chunk(table, at)
    _, flags, _, count, entries = struct.unpack_from("<BBHII", table, at + 8)
    if flags:  # sparse or short offsets, which neither build asks for: these strings are as if they were not there
        return
    for offset in struct.unpack_from(f"<{count}I", table, at + header):
        if offset == ABSENT:
            continue
        size, flags, key = struct.unpack_from("<HHI", table, at + entries + offset)
        if flags & COMPLEX:
            continue
        _, _, kind, number = struct.unpack_from("<HBBI", table, at + entries + offset + size)
        if kind == STRING:
            yield key, number
