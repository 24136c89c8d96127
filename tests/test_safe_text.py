"""Names that would steer a terminal or turn a line around are spelled out."""

import json

import pytest

from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import harmless, harmless_json, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fp16-attention · tflite", "fp16-attention · tflite"),
        ("模型 0.5B ñ", "模型 0.5B ñ"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\nb\r\0", "a\\nb\\r\\x00"),
        ("abc\u202edef", "abc\\u202edef"),
        ("\ud800", "\\ud800"),
        (7, "7"),
    ],
)
def test_shown(text, shown):
    assert visible(text) == shown
    visible(text).encode("utf-8")


def test_long_text_is_cut():
    assert visible("x" * 10**6) == "x" * 199 + "…" and len(visible("\0" * 300, 50)) == 50


def test_generated_text_keeps_its_lines_and_its_emoji_and_steers_nothing():
    kept = "line\n\tnext 👩‍👩‍👧 日本 עברית naïve\r\n"
    assert harmless(kept) == kept
    assert harmless("a\x1b[31mb\rc\x9bd\u202ee\ud800\x7f") == "a\\x1b[31mb\\rc\\x9bd\\u202ee\\ud800\\x7f"


def test_a_document_of_json_says_what_it_said():
    values = {"a\u202e": "x\x7f\x9b\u2066", "b": [1, "\n"]}
    shown = harmless_json(json.dumps(values, ensure_ascii=False))
    assert shown.isascii() and json.loads(shown) == values


def test_every_error_is_one_harmless_line_that_can_be_read():
    assert str(FirstTokenError("a\x1b[2J\n b\n\nc")) == "a\\x1b[2J b c"
    long = str(FirstTokenError("x" * 10**6 + "; do this"))
    assert len(long) < 3000 and long.endswith("; do this")
