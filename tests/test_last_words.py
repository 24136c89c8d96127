"""What a process notes for the one that watches it."""

import os
import subprocess
import sys

import pytest

from firsttoken import last_words
from firsttoken.quiet import quiet_runtime


@pytest.fixture
def kept(monkeypatch):
    monkeypatch.setattr(last_words, "_doing", None)
    monkeypatch.setattr(last_words, "_said", None)
    assert last_words.make()
    yield
    os.close(last_words._doing)
    os.close(last_words._said)


def test_what_is_done_goes_back_to_what_was_done_before(kept):
    with last_words.doing("exporting"):
        with last_words.doing("loading model.tflite"):
            assert last_words.read()[0] == "loading model.tflite"
        assert last_words.read()[0] == "exporting"
        last_words.now("running model.tflite")
        assert last_words.read()[0] == "running model.tflite"
        with pytest.raises(ValueError), last_words.doing("proving"):
            raise ValueError
        assert last_words.read()[0] == "running model.tflite"
    assert last_words.read()[0] == ""


def test_the_last_of_what_was_said_is_kept_and_a_flood_is_cut(kept):
    with quiet_runtime():
        os.write(2, b"x" * 10_000 + b"\nERROR: the end")
    said = last_words.read()[1]
    assert len(said) == last_words.ROOM and said.endswith("ERROR: the end")
    with quiet_runtime():
        os.write(2, b"ERROR: another")
    assert last_words.read()[1] == "ERROR: another"


def test_without_a_watcher_nothing_is_kept_and_nothing_fails(monkeypatch):
    monkeypatch.setattr(last_words, "_doing", None)
    monkeypatch.setattr(last_words, "_said", None)
    with last_words.doing("loading"):
        last_words.now("running")
    assert last_words.said_file() is None and last_words.read() == ("", "")


def test_a_process_of_its_own_says_it_into_its_starters_file(tmp_path):
    """Which outlives it."""
    program = (
        "import os\nfrom firsttoken import last_words\nfrom firsttoken.quiet import quiet_runtime\n"
        "last_words.say_into(2)\nwith quiet_runtime():\n    os.write(2, b'ERROR: no room')\n    os.abort()\n"
    )
    with open(tmp_path / "errors", "w+b") as errors:
        assert subprocess.run([sys.executable, "-c", program], stderr=errors).returncode == -6
        errors.seek(0)
        assert b"ERROR: no room" in errors.read()
