"""Reading and writing JSONL: one JSON object a line, with the line's number for error messages."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from firsttoken import plain_file
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible


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
    # Not splitlines: a JSON string may hold U+2028 and its like as they are, and only a newline ends a line (jsonlines.org).
    for number, text in enumerate(read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            yield number, _object(text, f"{path}, line {number}")
        except FirstTokenError as error:
            if skip is None:
                raise
            skip(str(error))


def _object(text: str, place: str) -> dict:
    try:
        value = plain_file.parse_json(text)
    except ValueError as error:
        raise FirstTokenError(f"{place}: not JSON ({visible(error)})") from None
    if not isinstance(value, dict):
        raise FirstTokenError(f"{place}: expected a JSON object, got {type(value).__name__}")
    return value


def append_line(path: Path, values: dict) -> None:
    """Adds a line, and returns when it is on the disk. Raises `OSError`; then half a line may be there, which whoever goes on cuts off."""
    line = memoryview((json.dumps(values, ensure_ascii=False) + "\n").encode())
    with open(path, "ab", buffering=0) as stream:  # a buffer would be written again, and fail again, as the file is closed
        while line:
            line = line[stream.write(line) :]
        os.fsync(stream.fileno())
