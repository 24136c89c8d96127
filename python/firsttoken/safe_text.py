"""Text from files that anyone may have written, made fit to show."""

import re

LONGEST = 200  # characters
# What steers a terminal or turns a line around: control characters, lone surrogates, direction marks that reach over other text.
STEERING = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]|\r(?!\n)")
STEERING_JSON = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # the others are spelled out by every writer of JSON


def visible(text: object, longest: int = LONGEST) -> str:
    """Returns ``text`` with control characters, lone surrogates and direction marks spelled out, and cut to ``longest`` characters.

    So a name can neither steer a terminal nor turn a line of a page around; HTML is escaped elsewhere.
    """
    shown = "".join(letter if letter.isprintable() else _spelled(letter) for letter in str(text)[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def harmless(text: str) -> str:
    """Returns ``text`` as it is, newlines, tabs and joined emoji included, but for what would steer a terminal, which is spelled out."""
    return STEERING.sub(lambda found: _spelled(found[0]), text)


def harmless_json(text: str) -> str:
    """The same of a JSON document, in JSON's own spelling, so that it says what it said."""
    return STEERING_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _spelled(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
