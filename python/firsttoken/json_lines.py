"""Reading JSONL: one JSON object a line, with the line's number for error messages."""

from collections.abc import Iterator
from pathlib import Path

from firsttoken import plain_file
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible


def read_text(path: Path) -> str:
    """Reads UTF-8. Raises `FirstTokenError`."""
    try:
        return plain_file.read_text(path, plain_file.TEXT_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise FirstTokenError(
            f"{path}: cannot be read as UTF-8 text ({visible(plain_file.why(error))}); exclude it in the recipe, or convert it"
        ) from None


def json_lines(path: Path) -> Iterator[tuple[int, dict]]:
    """Yields number, from 1, and object of every line that is not blank. Raises `FirstTokenError` naming the line."""
    # Not splitlines: a JSON string may hold U+2028 and its like as they are, and only a newline ends a line (jsonlines.org).
    for number, text in enumerate(read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            value = plain_file.parse_json(text)
        except ValueError as error:
            raise FirstTokenError(f"{path}, line {number}: not JSON ({visible(error)})") from None
        if not isinstance(value, dict):
            raise FirstTokenError(f"{path}, line {number}: expected a JSON object, got {type(value).__name__}")
        yield number, value
