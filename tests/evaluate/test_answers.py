"""Kept answers: asked once, whatever they hold and wherever a run was killed; another file is refused."""

from types import SimpleNamespace

import pytest

from firsttoken.errors import FirstTokenError
from firsttoken.evaluate import answers
from firsttoken.evaluate.answers import Answers

SUBJECT = SimpleNamespace(fingerprint="f", name="m", runner=None, tokenizer=None)


@pytest.fixture
def model(monkeypatch):
    """Answers every prompt with itself between two of Unicode's line separators, and counts."""
    asked = []

    def spoken(runner, tokenizer, prompt, *rest, **more):
        asked.append(prompt)
        return ["\u2028", prompt, "\x85"]

    monkeypatch.setattr(answers, "generate", spoken)
    return asked


def ask(file, prompt):
    return Answers(file).ask(SUBJECT, prompt, 8, 0.0, 0, True)


def test_an_answer_is_asked_for_once(model, tmp_path):
    file = tmp_path / "a.jsonl"
    assert [ask(file, prompt) for prompt in "abab"] == [f"\u2028{prompt}\x85" for prompt in "abab"]
    assert model == ["a", "b"]


def test_a_line_cut_by_a_kill_is_asked_for_again(model, tmp_path):
    file = tmp_path / "a.jsonl"
    ask(file, "a"), ask(file, "b")
    file.write_bytes(file.read_bytes()[:-9])
    assert ask(file, "a") == "\u2028a\x85" and ask(file, "b") == "\u2028b\x85"
    assert model == ["a", "b", "b"] and file.read_bytes().count(b"\n") == 2


def test_a_cut_in_the_middle_of_a_letter_takes_no_more_than_that_line(model, tmp_path):
    file = tmp_path / "a.jsonl"
    ask(file, "a"), ask(file, "b")
    whole = file.read_bytes()
    first = whole.index(b"\n") + 1
    file.write_bytes(whole[:first] + b'{"key": "\xff\xff\xc3')
    assert ask(file, "a") == "\u2028a\x85" and file.read_bytes() == whole[:first]
    assert model == ["a", "b"]


def test_a_line_that_is_no_utf8_is_refused_and_nothing_is_cut(model, tmp_path):
    file = tmp_path / "a.jsonl"
    ask(file, "a")
    whole = b'{"key": "\xff", "answer": ""}\n' + file.read_bytes() + b"{"
    file.write_bytes(whole)
    with pytest.raises(FirstTokenError, match="not a file of `firsttoken evaluate`"):
        ask(file, "a")
    assert file.read_bytes() == whole


def test_another_file_is_refused(model, tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("a line\n", encoding="utf-8")
    with pytest.raises(FirstTokenError, match="not a file of `firsttoken evaluate`"):
        ask(file, "a")
