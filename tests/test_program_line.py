"""A program that is broken, waits or talks without end is told within its seconds, and leaves nothing running."""

import time

import pytest

from firsttoken import doctor
from firsttoken.program_line import first_line


@pytest.fixture
def program(tmp_path):
    def written(text: str, mode: int = 0o755):
        path = tmp_path / "adb"
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    return written


def test_the_first_line_that_says_something(program):
    assert first_line([program("#!/bin/sh\necho\necho Android Debug Bridge 1.0\necho more\n")]) == "Android Debug Bridge 1.0"


BROKEN = {
    "not-executable": ("#!/bin/sh\n", 0o644, "Permission denied"),
    "not-a-program": ("\x7fELF not really", 0o755, "Exec format error"),
    "crashes": ("#!/bin/sh\necho oops; kill -SEGV $$\n", 0o755, "ended with SIGSEGV, saying 'oops'"),
    "fails": ("#!/bin/sh\nprintf '\\033[31mno'; exit 3\n", 0o755, r"exit code 3, saying '\\x1b[31mno'"),
    "silent": ("#!/bin/sh\n", 0o755, "says nothing"),
    "hangs": ("#!/bin/sh\nsleep 600\n", 0o755, "does not answer in time"),
    "endless": ("#!/bin/sh\nwhile :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done\n", 0o755, "says more than"),
}  # fmt: skip


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_adb_is_one_line_of_doctor_and_the_rest_goes_on(how, program, monkeypatch):
    text, mode, said = BROKEN[how]
    path = program(text, mode)
    monkeypatch.setattr("firsttoken.device.adb.find_adb", lambda: path)
    started = time.monotonic()
    [check] = [check for check in doctor.examine() if check.name == "adb"]
    assert check.state == "note" and said in check.found and check.advice
    assert check.found.isprintable() and time.monotonic() - started < 20


def test_garbage_is_spelled_out(program):
    assert first_line([program("#!/bin/sh\nprintf '\\377\\033]0;t\\007\\n'\n")]) == "\ufffd\\x1b]0;t\\x07"


def test_what_it_starts_does_not_keep_us(program):
    started = time.monotonic()
    assert first_line([program("#!/bin/sh\necho fine\nsleep 600 &\n")]) == "fine"
    assert time.monotonic() - started < 3
