"""A file appears complete or not at all, and what a kill left of one goes with the next."""

import os
import signal
import subprocess
import sys

import pytest

from firsttoken.atomic_file import write_text
from firsttoken.errors import FirstTokenError

KILLED = """
import os, signal, sys
from firsttoken import atomic_file
atomic_file.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
atomic_file.write_text(sys.argv[1], "new")
"""


def test_a_kill_leaves_the_old_file_and_the_next_write_tidies_up(tmp_path):
    path = tmp_path / "scores.json"
    write_text(path, "old")
    assert subprocess.run([sys.executable, "-c", KILLED, path]).returncode == -signal.SIGKILL
    [left] = [p for p in tmp_path.iterdir() if p != path]
    assert path.read_text() == "old" and left.suffix == ".partial"
    living = tmp_path / f".scores.json.{os.getppid()}-abc.partial"
    others = [tmp_path / name for name in (".other.json.999999999-abc.partial", ".scores.json.notes.partial")]
    for other in (living, *others):
        other.write_text("")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert sorted(tmp_path.iterdir()) == sorted([path, living, *others])


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "scores.json"
    write_text(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FirstTokenError, match=r"cannot be written \(No space left on device\); the file there, if any, is unchanged"):
        write_text(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["scores.json"] and path.read_text() == "old"
