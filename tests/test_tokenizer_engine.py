"""A tokenizer.json that is none, or no plain file, or makes its library panic, is one line."""

import json
import os

import pytest

from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer
from firsttoken.tokenizer_engine import PANIC, open_engine, told_panics

GOOD = json.loads((checkpoint_path() / "tokenizer.json").read_text(encoding="utf-8"))


def test_what_is_no_plain_file_is_refused_without_waiting(tmp_path):
    path = tmp_path / "tokenizer.json"
    os.mkfifo(path)
    with pytest.raises(FirstTokenError, match="is a named pipe"):
        Tokenizer(tmp_path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(FirstTokenError, match="is a device"):
        Tokenizer(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(FirstTokenError, match="is a folder"):
        Tokenizer(tmp_path)


def test_a_huge_one_is_not_read(tmp_path):
    with open(tmp_path / "tokenizer.json", "wb") as stream:
        stream.truncate(5 << 30)
    with pytest.raises(FirstTokenError, match="at most"):
        Tokenizer(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null", '{"model": {"type": "BPE"}}', "[" * 100_000, "\x1b[31m"])
def test_what_is_no_tokenizer_is_one_line(text, tmp_path):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(FirstTokenError, match="cannot be read as a tokenizer") as caught:
        open_engine(tmp_path / "tokenizer.json")
    assert str(caught.value).isprintable()


def test_a_token_far_above_any_vocabulary_is_refused(tmp_path):
    added = [*GOOD["added_tokens"], {**GOOD["added_tokens"][0], "id": 2**31, "content": "<far>"}]
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({**GOOD, "added_tokens": added, "model": {**GOOD["model"], "vocab": {**GOOD["model"]["vocab"], "<far>": 2**31}}})
    )
    with pytest.raises(FirstTokenError, match="has token 2147483648"):
        _ = Tokenizer(tmp_path).vocab_size


def test_a_panic_is_an_error_and_an_interrupt_is_not():
    panic = type(PANIC, (BaseException,), {})
    with pytest.raises(FirstTokenError, match="it fails .index out of bounds"), told_panics("it fails"):
        raise panic("index out of bounds")
    with pytest.raises(KeyboardInterrupt), told_panics("it fails"):
        raise KeyboardInterrupt


def test_a_damaged_file_beside_it_is_not_copied(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(GOOD))
    (tmp_path / "special_tokens_map.json").mkdir()
    (tmp_path / "out").mkdir()
    with pytest.raises(FirstTokenError, match="special_tokens_map.json: cannot be copied"):
        Tokenizer(tmp_path).copy_files(tmp_path / "out")
