"""Programs that a model wrote can compute; their tests say whether they did it right, and nobody else."""

import time

import pytest

from firsttoken.errors import FirstTokenError
from firsttoken.evaluate import sandbox
from firsttoken.evaluate.sandbox import Limits, Outcome, run, run_program, run_with_input

FEW = Limits(seconds=5.0, memory=1 << 30)
DONE = "\ndef done():\n    return 'done'\n"


@pytest.mark.parametrize(
    "code",
    [
        "assert 1 + 1 == 2",
        "import math, re, collections, itertools, random, decimal, fractions, typing\nassert math.sqrt(4) == 2",
        "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()",
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(3) as pool:\n    assert list(pool.map(abs, [-1, -2])) == [1, 2]",
        "print('x' * 3_000_000)",
        "assert open('/proc/self/status').read()",
        "import asyncio\n\nasync def slow(n):\n    await asyncio.sleep(0.01)\n    return n\n\nasync def both():\n    return await asyncio.gather(slow(1), slow(2))\n\nassert asyncio.run(both()) == [1, 2]",
        "import numpy as np\nassert np.linalg.inv(np.eye(3)).sum() == 3 and np.random.default_rng(0).random() < 1",
        "import ctypes, sqlite3, ssl, lzma, zoneinfo, os\nassert os.urandom(4) and os.listdir('.') == []\nassert open('/dev/urandom', 'rb').read(2)\nassert open(os.__file__).read()",
        "import signal, os, time\nrung = []\nsignal.signal(signal.SIGALRM, lambda *_: rung.append(1))\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\ntime.sleep(0.1)\nassert rung",
        "import sys\nassert sys.stdin.read() == ''",
    ],
)
def test_honest_programs_pass(code):
    assert run_program(code + DONE, "assert done() == 'done'", FEW) == Outcome(True)


@pytest.mark.parametrize(
    "code,why",
    [
        ("assert 1 == 2, 'wrong sum'", "AssertionError: wrong sum"),
        ("def f(:", "SyntaxError"),
        ("input()", "EOFError"),
        ("x = bytearray(2 << 30)", "MemoryError"),
        ("import sys\nsys.exit(0)", "left early with status 0"),
        ("import os\nos._exit(0)", "left early with status 0"),
        ("import ctypes\nctypes.string_at(0)", "ended by SIGSEGV"),
        ("raise SystemExit('\\x1b[2Jhello')", "\\x1b[2Jhello"),
        ("def done(): return [done()]", "RecursionError"),
        ("def done(): raise KeyError('nothing')", "KeyError: 'nothing'"),
        ("def done(): return 'x' * (65 << 20)", "too large"),
        ("pass", "NameError"),
    ],
)
def test_others_fail_and_say_why(code, why):
    outcome = run_program(code, "assert done() == 'done'", FEW)
    assert not outcome.passed and why in outcome.why and "\x1b" not in outcome.why, outcome


@pytest.mark.parametrize(
    "returned",
    ["None", "True", "-(10**5000)", "0.1 + 0.2", "float('inf')", "1j", "'é\\ud800'", "b'\\x00'", "bytearray(b'a')", "[1, (2, {3: {4}})]", "frozenset({1})",
     "range(3)", "{(1, 2): [3]}", "__import__('collections').deque([1])", "__import__('decimal').Decimal('1.10')", "__import__('fractions').Fraction(1, 3)",
     "__import__('collections').Counter('aab')", "{1: 2}.keys()", "..." ],
)  # fmt: skip
def test_values_come_back_as_they_are(returned):
    expected = "True" if returned == "..." else f"type(f()) is type({returned}) or f() == {returned}"
    tests = f"assert f() == {returned}\nassert {expected}" if returned != "..." else "assert f() is not None"
    assert run_program(f"def f():\n    return {returned}\n", tests, FEW) == Outcome(True)


@pytest.mark.parametrize(
    "code,tests",
    [
        ("def f(x):\n    x.append(1)", "x = [0]\nf(x)\nassert x == [0, 1]"),
        ("def f(x):\n    x['a'] = 1", "x = {}\nf(x)\nassert x == {'a': 1}"),
        ("def f(x):\n    x.discard(1)", "x = {1, 2}\nf(x)\nassert x == {2}"),
        ("def f(g):\n    return [g(n) for n in range(3)]", "assert f(lambda n: n * n) == [0, 1, 4]"),
        ("def f():\n    yield from (1, 2)", "assert list(f()) == [1, 2]"),
        ("class Stack:\n    def __init__(self):\n        self.items = []\n    def push(self, item):\n        self.items.append(item)\n    def __len__(self):\n        return len(self.items)", "s = Stack()\ns.push(1)\nassert len(s) == 1 and s.items == [1]"),
        ("def adder(n):\n    return lambda m: n + m", "assert adder(1)(2) == 3"),
        ("import math\ndef f(x):\n    return math.floor(x)", "assert f(2.5) == math.floor(2.5)"),
        ("def f(x):\n    raise ValueError('no')", "try:\n    f(1)\nexcept ValueError as error:\n    assert str(error) == 'no'\nelse:\n    assert False"),
        ("LIMIT = 3", "assert LIMIT == 3"),
        ("class P:\n    def __init__(self, a):\n        self.a = a\n    def __eq__(self, other):\n        return self.a == other.a\ndef f(n):\n    return P(n)", "assert f(1) == P(1)"),
        ("import numpy as np\ndef f(x):\n    return np.asarray(x) * 2", "import numpy as np\nassert (f(np.array([1.5])) == np.array([3.0])).all() and f([1])[0] == 2"),
    ],
)  # fmt: skip
def test_tests_use_the_program_as_if_it_were_there(code, tests):
    assert run_program(code, tests, FEW) == Outcome(True)


def test_a_function_of_pythons_own_name_counts_where_it_was_asked_for():
    code = "def sum(a, b):\n    return a + b\n\ndef abs(x):\n    return 3\n"
    assert run_program(code, "assert sum(1, 2) == 3", FEW, asked=["sum"]).passed
    assert run_program(code, "assert abs(-1) == 1", FEW).passed


def test_standard_input():
    assert run_with_input("print(int(input()) + 1)", "41\n", FEW) == ("42\n", "")
    assert run_with_input("import sys\nprint(len(sys.stdin.read()))", "x" * 200_000, FEW) == ("200000\n", "")
    assert run_with_input("import sys\nprint(1)\nsys.exit(0)", "", FEW) == ("1\n", "")
    assert run_with_input("print(int(input()))", "", FEW) == (None, "EOFError: EOF when reading a line")
    assert run_with_input("while True: pass", "", Limits(1.0, 1 << 30)) == (None, "not finished after 1 s")


@pytest.mark.parametrize("code", ["while True: pass", "import time\ntime.sleep(60)", "def done():\n    while True: pass", "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"])  # fmt: skip
def test_time_is_limited(code):
    started = time.monotonic()
    outcome = run_program(code, "assert done() == 'done'", Limits(seconds=1.0, memory=1 << 30))
    assert outcome == Outcome(False, "not finished after 1 s") and time.monotonic() - started < 20


def test_the_users_environment_is_not_there(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    assert run_program("import os\ndef f():\n    return sorted(os.environ)", "assert 'SECRET_TOKEN' not in f()", FEW).passed


def test_nothing_runs_where_it_cannot_be_sandboxed(tmp_path, monkeypatch):
    inside = tmp_path / "inside"
    inside.mkdir()
    for file in run.INSIDE.glob("*.py"):
        (inside / file.name).write_text(file.read_text().replace('"x86_64"', '"other_64"').replace('"aarch64"', '"other"'))
    monkeypatch.setattr(run, "INSIDE", inside)
    with pytest.raises(FirstTokenError, match="programs that a model wrote are not run here"):
        run_program("pass", "pass", FEW)
    with pytest.raises(FirstTokenError, match="programs that a model wrote are not run here"):
        run_with_input("pass", "", FEW)


@pytest.mark.parametrize("version,said", [(0, "it can read the user's files"), (5, "one wall instead of two")])
def test_what_an_older_kernel_lacks_is_said(tmp_path, monkeypatch, capfd, version, said):
    from firsttoken.cli import run as command

    monkeypatch.setattr(run, "landlock_version", lambda: version)
    assert said in " ".join(sandbox.unguarded())
    assert run_program("def f():\n    return 1", "assert f() == 1", FEW).passed
    assert command(["evaluate", str(tmp_path), "--tasks", f"code={tmp_path / 'none'}"]) == 2
    told = capfd.readouterr().err
    assert said in told and told.count("\n") == 2
    assert command(["evaluate", str(tmp_path), "--tasks", f"text={tmp_path / 'none'}"]) == 2
    assert "landlock" not in capfd.readouterr().err
