"""Text and JSON from a device, made fit for a terminal and for a parser."""

import json
import math
from typing import Never

from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible

LONGEST_LINE = 300  # characters of a device's own words that a message repeats


def one_line(text: str | bytes, limit: int = LONGEST_LINE) -> str:
    """Returns ``text`` as one printable line of at most ``limit`` characters, blanks of all kinds as one space."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="replace")
    # the cut first: the text may be megabytes
    return visible(" ".join(text[: 20 * limit].split()), limit)


def parse_json(data: bytes, source: str) -> dict:
    """Returns the JSON object in ``data``. Raises `FirstTokenError` naming ``source`` for anything else, NaN and infinity included."""

    def refuse(constant: str) -> Never:
        raise ValueError(f"{constant} is not a JSON number")

    def finite(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise ValueError(f"{digits} is out of range")
        return value

    try:
        values = json.loads(data.decode("utf-8"), parse_constant=refuse, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise FirstTokenError(f"{source}: not valid JSON ({one_line(str(error), 120)})") from None
    if not isinstance(values, dict):
        raise FirstTokenError(f"{source}: expected a JSON object, found {type(values).__name__}")
    return values
