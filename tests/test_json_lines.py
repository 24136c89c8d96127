"""JSONL: objects by line number, and only a newline ends a line."""

import json

import pytest

from firsttoken.errors import FirstTokenError
from firsttoken.json_lines import json_lines


def test_lines_are_numbered_and_blank_ones_left_out(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\r\n\n{"a": 2}')
    assert list(json_lines(path)) == [(1, {"a": 1}), (3, {"a": 2})]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_string_may_hold_what_unicode_calls_a_line_separator(tmp_path, separator):
    path, line = tmp_path / "x.jsonl", {"text": f"one{separator}two"}
    path.write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")
    assert list(json_lines(path)) == [(1, line)]


@pytest.mark.parametrize(
    "bad,message", [("{", "line 2: not JSON"), ("[1]", "line 2: expected a JSON object, got list"), ("[" * 100_000, "line 2: not JSON")]
)
def test_bad_lines_are_named(tmp_path, bad, message):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n' + bad + "\n", encoding="utf-8")
    with pytest.raises(FirstTokenError, match=message):
        list(json_lines(path))


def test_what_is_not_text_is_refused(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(FirstTokenError, match="cannot be read as UTF-8"):
        list(json_lines(path))


def test_a_line_is_added_whole(tmp_path):
    from firsttoken.json_lines import append_line

    file = tmp_path / "lines.jsonl"
    for n in range(3):
        append_line(file, {"n": n, "text": "é\u2028\n" * 1000})
    assert [(number, values["n"], len(values["text"])) for number, values in json_lines(file)] == [(n + 1, n, 3000) for n in range(3)]
