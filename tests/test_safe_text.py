"""Names that would steer a terminal or turn a line around are spelled out."""

import pytest

from firsttoken.safe_text import visible


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
