"""Whether a file that ends the process that loads it is told to a program that has no watcher."""

import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firsttoken import last_words
from firsttoken.backends.registry import find_backend
from firsttoken.bundle.manifest import read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.run import trial

DIES = """#!{python}
import os, sys
print("INFO: loading\\nERROR: buffer 7 lies beyond the file", file=sys.stderr, flush=True)
os.kill(os.getpid(), {number})
"""


@pytest.fixture
def bundle(demo_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(last_words, "_doing", None)
    monkeypatch.setattr(last_words, "_said", None)
    return Path(shutil.copytree(demo_bundle("tflite-xnnpack"), tmp_path / "bundle"))


def try_bundle(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    trial.try_first(bundle, manifest, find_backend(manifest.cpu.backend))


def dying(monkeypatch, folder: Path, number: int) -> None:
    program = folder / "dies"
    program.write_text(DIES.format(python=sys.executable, number=number))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(trial.sys, "executable", str(program))


def test_a_good_file_is_tried_once(bundle, monkeypatch):
    time.sleep(1.1)  # until its times are settled
    try_bundle(bundle)

    def again(*arguments, **named):
        raise AssertionError("tried a second time")

    monkeypatch.setattr(trial.subprocess, "run", again)
    try_bundle(bundle)


@pytest.mark.parametrize(("number", "said"), [(11, "SIGSEGV"), (6, "SIGABRT"), (9, "memory ran out")])
def test_a_death_is_an_error(bundle, tmp_path, monkeypatch, number, said):
    dying(monkeypatch, tmp_path, number)
    with pytest.raises(FirstTokenError, match=said) as caught:
        try_bundle(bundle)
    assert str(caught.value).startswith(f"loading {bundle / 'model.tflite'}: ")
    assert (number == 9) or "buffer 7 lies beyond the file" in str(caught.value)


def test_where_the_process_is_watched_nothing_is_tried(bundle, tmp_path, monkeypatch):
    dying(monkeypatch, tmp_path, 11)
    monkeypatch.setattr(last_words, "_said", 2)
    try_bundle(bundle)


def test_a_program_of_a_user_is_told(bundle):
    """Through the public function, in a Python of its own; a file that is merely damaged is said by the load itself."""
    code = "import firsttoken, sys; print(firsttoken.generate(sys.argv[1], 'Once', max_tokens=2))"
    done = subprocess.run([sys.executable, "-c", code, str(bundle)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
