"""Reading files that anyone may have put there: plain ones only, and no more of them than is sensible.

A named pipe would be waited for without end, /dev/zero read without end. Both are an `OSError` here, which says what was found, like
any other reason why a file cannot be read.
"""

import errno
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any, BinaryIO

from firsttoken.units import readable

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
SETTINGS_BYTES = 16 << 20  # of a configuration, plan, recipe, manifest or template
LARGE_JSON_BYTES = 64 << 20  # of an index of shards or a measurement; as objects they take up to thirty times as much
TOKENIZER_BYTES = 256 << 20
TEXT_BYTES = 4 << 30  # of a text or JSONL file, which is read as a whole
MOST_DIGITS = 300  # of a whole number: one of more is beyond every floating-point number


def open_plain(path: str | Path) -> BinaryIO:
    """Opens a plain file for reading. Raises `OSError` for anything else, without waiting."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        facts = os.fstat(descriptor)
        check_plain(facts, path)
        # what the system makes up while it is read looks plain, and may have to be waited for, like /proc/kmsg
        if not facts.st_size and os.pread(descriptor, 1, 0):
            raise OSError(errno.EINVAL, "is made up by the system; expected a plain file", str(path))
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_plain(facts: os.stat_result, path: str | Path) -> None:
    """Raises `OSError` unless the facts are a plain file's."""
    kind = stat.S_IFMT(facts.st_mode)
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, f"is {KINDS.get(kind, 'no plain file')}; expected a plain file", str(path))


def read_bytes(path: str | Path, most: int = SETTINGS_BYTES) -> bytes:
    """Reads a whole file of at most ``most`` bytes. Raises `OSError` for a larger one, or one that is no plain file."""
    with open_plain(path) as stream:
        return stream.read(check_size(stream, path, most))  # as much memory as is asked for is taken at once


def check_size(stream: BinaryIO, path: str | Path, most: int) -> int:
    """Returns an open file's size in bytes. Raises `OSError` where it is above ``most``."""
    size = os.fstat(stream.fileno()).st_size
    if size > most:
        raise OSError(errno.EFBIG, f"has {readable(size)}; expected {readable(most)} at most", str(path))
    return size


def read_text(path: str | Path, most: int = SETTINGS_BYTES, errors: str = "strict") -> str:
    """Reads a whole text in UTF-8, newlines as they are. Raises `OSError` as `read_bytes` does, and `UnicodeDecodeError`."""
    return read_bytes(path, most).decode("utf-8", errors)


def parse_json(text: str | bytes) -> Any:
    """Parses JSON from a stranger. Raises `ValueError` for what is no JSON, nested too deeply, or a number of hundreds of digits."""
    try:
        return json.loads(text, parse_int=_whole_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits; expected {MOST_DIGITS} at most")
    return int(digits)


def copy(source: str | Path, target: str | Path, most: int = TOKENIZER_BYTES) -> None:
    """Copies a plain file of at most ``most`` bytes. Raises `OSError`."""
    with open_plain(source) as stream:
        check_size(stream, source, most)
        with open(target, "wb") as output:
            shutil.copyfileobj(stream, output, 1 << 20)


def why(error: Exception) -> str:
    """What a reading error says, without its number and path, which the message has already."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
