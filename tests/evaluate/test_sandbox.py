"""Programs that a model wrote can compute, and nothing else."""

import os
import time

import pytest

from firsttoken.errors import FirstTokenError
from firsttoken.evaluate import sandbox
from firsttoken.evaluate.sandbox import Limits, run_program

FEW = Limits(seconds=2.0, memory=512 << 20)


@pytest.mark.parametrize(
    "program",
    [
        "assert 1 + 1 == 2",
        "import math, re, collections, itertools, random, decimal, fractions, typing\nassert math.sqrt(4) == 2",
        "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()",
        "print('x' * 3_000_000)",
        "assert open('/proc/self/status').read()",
        "def f():\n    return 3\n\nassert f() == 3",
    ],
)
def test_honest_programs_pass(program):
    assert run_program(program, FEW) == sandbox.ProgramOutcome(True)


@pytest.mark.parametrize(
    "program,why",
    [
        ("assert 1 == 2, 'wrong sum'", "AssertionError: wrong sum"),
        ("def f(:", "SyntaxError"),
        ("input()", "EOFError"),
        ("x = bytearray(2 << 30)", "MemoryError"),
        ("import sys\nsys.exit(0)", "left early with status 0"),
        ("import os\nos._exit(0)", "left early with status 0"),
        (
            "import os\nfor n in range(3, 20):\n    try:\n        os.write(n, b'0' * 32)\n    except OSError:\n        pass\nos._exit(0)",
            "left early",
        ),
        ("import socket\nsocket.socket()", "PermissionError"),
        ("import socket\nsocket.create_connection(('127.0.0.1', 22), 1)", "PermissionError"),
        ("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:1')", "not permitted"),
        ("import subprocess\nsubprocess.run(['ls'])", "PermissionError"),
        ("import os\nos.fork()", "PermissionError"),
        ("import os\nassert os.system('true') == 0", "AssertionError"),
        ("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)", "PermissionError"),
        ("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (99, 99))", "ValueError"),
        ("import multiprocessing\nmultiprocessing.Process(target=print).start()", "Error"),
    ],
)
def test_others_fail_and_say_why(program, why):
    outcome = run_program(program, FEW)
    assert not outcome.passed and why in outcome.why, outcome


@pytest.mark.parametrize("how", ["open({path!r}, 'w')", "open({path!r}, 'a')", "os.open({path!r}, os.O_CREAT | os.O_RDWR)", "os.unlink({path!r})", "os.rename({path!r}, {path!r} + 'x')", "os.truncate({path!r}, 0)", "os.chmod({path!r}, 0)", "os.mkdir({path!r} + 'd')", "os.link({path!r}, {path!r} + 'l')"])  # fmt: skip
def test_files_stay_as_they_are(tmp_path, how):
    path = tmp_path / "precious"
    path.write_text("gold")
    before = os.stat(path)
    outcome = run_program(f"import os\n{how.format(path=str(path))}", FEW)
    assert not outcome.passed and "PermissionError" in outcome.why
    assert path.read_text() == "gold" and sorted(os.listdir(tmp_path)) == ["precious"] and os.stat(path).st_mode == before.st_mode


READS = ["open({path!r}).read()", "import os\nos.listdir(os.path.dirname({path!r}))", "open('/etc/passwd').read()", "open('/proc/1/cmdline').read()",
         "open('/proc/self/root' + {path!r}).read()", "import os\nos.chdir(os.path.dirname({path!r}))\nopen('secret').read()"]  # fmt: skip


@pytest.mark.parametrize("how", READS)
def test_the_users_files_are_hidden(tmp_path, how):
    if not sandbox.hides_files():
        pytest.skip("NOT TESTED, hidden files: this kernel has no landlock; use Linux 5.13 or newer with it enabled")
    (tmp_path / "secret").write_text("gold")
    outcome = run_program(how.format(path=str(tmp_path / "secret")), FEW)
    assert not outcome.passed and "PermissionError" in outcome.why, outcome


def test_the_standard_library_is_not_hidden():
    program = "import ctypes, sqlite3, ssl, lzma, zoneinfo, os\nassert os.urandom(4) and os.listdir('.') == []\nassert open('/dev/urandom', 'rb').read(2)\nassert open(os.__file__).read()"
    assert run_program(program, FEW) == sandbox.ProgramOutcome(True)


def test_a_kernel_that_cannot_hide_files_still_runs_programs_and_says_so(tmp_path, monkeypatch, capfd):
    from firsttoken.cli import run

    monkeypatch.setattr(sandbox, "landlock_version", lambda: 0)
    secret = tmp_path / "secret"
    secret.write_text("gold")
    assert run_program(f"assert open({str(secret)!r}).read() == 'gold'", FEW).passed
    assert not run_program(f"open({str(secret)!r}, 'w')", FEW).passed
    assert run(["evaluate", str(tmp_path), "--tasks", f"code={secret}"]) == 2
    told = capfd.readouterr().err
    assert "this kernel has no landlock" in told and told.count("\n") == 2
    monkeypatch.undo()
    assert run(["evaluate", str(tmp_path), "--tasks", f"text={secret}"]) == 2
    assert "landlock" not in capfd.readouterr().err


@pytest.mark.parametrize("program", ["while True: pass", "import time\ntime.sleep(60)"])
def test_time_is_limited(program):
    started = time.monotonic()
    outcome = run_program(program, Limits(seconds=1.0, memory=512 << 20))
    assert outcome == sandbox.ProgramOutcome(False, "not finished after 1 s") and time.monotonic() - started < 20


def test_the_users_environment_is_not_there(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    assert run_program("import os\nassert 'SECRET_TOKEN' not in os.environ", FEW).passed


def test_nothing_runs_where_it_cannot_be_sandboxed(tmp_path, monkeypatch):
    child = tmp_path / "child.py"
    child.write_text(sandbox.CHILD.read_text().replace('"x86_64"', '"other_64"').replace('"aarch64"', '"other"'))
    monkeypatch.setattr(sandbox, "CHILD", child)
    with pytest.raises(FirstTokenError, match="programs that a model wrote are not run here"):
        run_program("pass", FEW)
