"""Reading and writing JSONL: one JSON object a line, with the line's number for error messages."""

import codecs
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from firsttoken import plain_file
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible
from firsttoken.units import readable

LONGEST_LINE = 256 << 20  # bytes


def read_text(path: Path) -> str:
    """Reads UTF-8, without the byte order mark that some editors begin it with. Raises `FirstTokenError`."""
    try:
        return plain_file.read_text(path, plain_file.TEXT_BYTES).removeprefix("\ufeff")
    except (OSError, UnicodeDecodeError) as error:
        raise FirstTokenError(
            f"{path}: cannot be read as UTF-8 text ({visible(plain_file.why(error))}); exclude it in the recipe, or convert it"
        ) from None


def json_lines(path: Path, skip: Callable[[str], None] | None = None) -> Iterator[tuple[int, dict]]:
    """Yields number, from 1, and object of every line that is not blank.

    Raises `FirstTokenError` naming a line that is no object; with ``skip`` that is told instead, and reading goes on.
    """
    # By bytes, and not splitlines: a JSON string may hold U+2028 and its like as they are, and only a newline ends a line (jsonlines.org).
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            yield number, _object(line, f"{path}, line {number}")
        except FirstTokenError as error:
            if skip is None:
                raise
            skip(str(error))


def _lines(path: Path) -> Iterator[bytes]:
    """Yields the lines of a file one by one, the first without a byte order mark."""
    try:
        with plain_file.open_plain(path) as stream:
            number = 0
            while line := stream.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE:
                    raise FirstTokenError(f"{path}, line {number}: is longer than {readable(LONGEST_LINE)}; is it JSON, an object a line?")
                yield line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
    except OSError as error:
        raise FirstTokenError(
            f"{path}: cannot be read ({visible(plain_file.why(error))}); exclude it in the recipe, or copy it again"
        ) from None


def _object(line: bytes, place: str) -> dict:
    try:
        value = plain_file.parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise FirstTokenError(
            f"{place}: cannot be read as UTF-8 text ({visible(error)}); convert the file, or leave the line out"
        ) from None
    except ValueError as error:
        raise FirstTokenError(f"{place}: not JSON ({visible(error)})") from None
    if not isinstance(value, dict):
        raise FirstTokenError(f"{place}: expected a JSON object, got {type(value).__name__}")
    return value


def append_line(path: Path, values: dict) -> None:
    """Adds a line, and returns when it is on the disk. Raises `OSError`; then half a line may be there, which whoever goes on cuts off."""
    append_lines(path, [values])


def append_lines(path: Path, lines: list[dict]) -> int:
    """The same with several lines at once. Returns the file's size in bytes behind them."""
    rest = memoryview("".join(json.dumps(values, ensure_ascii=False) + "\n" for values in lines).encode())
    with open(path, "ab", buffering=0) as stream:  # a buffer would be written again, and fail again, as the file is closed
        while rest:
            rest = rest[stream.write(rest) :]
        os.fsync(stream.fileno())
        return os.fstat(stream.fileno()).st_size
