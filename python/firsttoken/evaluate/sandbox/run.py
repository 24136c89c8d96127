"""Starting both processes and taking the verdict.

The program runs in one, its tests in the other, which calls the program's functions over a pipe and compares plain data. So the
program sees neither the tests' values nor the pipe that the verdict comes through, and cannot forge it. Both are fresh Python
processes without the user's environment that guard themselves first (`inside.guard`): no network, no files but Python's own and
numpy's, no other programs or processes, bounded time and memory. It is a guard against a model's mistakes and mischief; it is no
prison for an attacker with a kernel exploit. Where the system cannot give the system-call filter and the limits, nothing is run; what an
older kernel lacks beside them is said by `unguarded`.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from firsttoken.errors import FirstTokenError
from firsttoken.evaluate.sandbox.inside.guard import SCOPES_SINCE, landlock_version
from firsttoken.safe_text import visible

INSIDE = Path(__file__).with_name("inside")
MOST_OUTPUT = 1 << 20  # bytes of a program's output that are looked at
NO_SANDBOX = 97  # a process's exit status where it cannot guard itself


@dataclass(frozen=True)
class Limits:
    """Seconds on the clock for program and tests together, and bytes of memory for each of the two."""

    seconds: float = 10.0
    memory: int = 1 << 30


@dataclass(frozen=True)
class Outcome:
    """Whether the tests passed, and if not, why in a line."""

    passed: bool
    why: str = ""


def unguarded() -> list[str]:
    """What this kernel cannot keep from a program; empty where all walls stand."""
    version, missing = landlock_version(), []
    if version < 1:
        missing.append("it can read the user's files (the kernel has no landlock; Linux 5.13 and newer have)")
    if 0 < version < SCOPES_SINCE:
        missing.append("signals and abstract sockets have one wall instead of two (landlock's scopes come with Linux 6.12)")
    return missing


def run_program(code: str, tests: str, limits: Limits = Limits(), asked: Sequence[str] = ()) -> Outcome:
    """Runs a Python program and then ``tests``, which use its functions by name and raise where one is wrong.

    ``asked`` are names that count as the program's even where Python has a function of that name. Raises `FirstTokenError` where
    this system cannot sandbox.
    """
    with ExitStack() as stack:
        calls, results, verdict = (pipe(stack) for _ in range(3))
        output, said = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        program = start(stack, "program", {"code": code}, limits, output, [calls[0], results[1]])
        examiner = start(stack, "examiner", {"tests": tests, "asked": list(asked)}, limits, said, [results[0], calls[1], verdict[1]])
        for end in (*calls, *results, verdict[1]):
            close(end)
        finished = wait(examiner, limits.seconds)
        end_all(program, examiner)
        told = read_verdict(verdict[0])
        last = last_line(output)
        refuse_unguarded(program, last)
        refuse_unguarded(examiner, last_line(said))
    if not finished:
        return Outcome(False, f"not finished after {limits.seconds:g} s")
    if "passed" in told and examiner.returncode == 0:
        return Outcome(True)
    if "failed" in told:
        return Outcome(False, visible(told["failed"]))
    return Outcome(False, how_it_ended(program, last))


def run_with_input(code: str, text: str, limits: Limits = Limits(), most: int = 0) -> tuple[str | None, str]:
    """Runs a program with ``text`` as its standard input; returns what it printed, or None and why it did not end well.

    Of a long output ``most`` bytes are returned, or `MOST_OUTPUT` where that is more.
    Raises `FirstTokenError` where this system cannot sandbox.
    """
    with ExitStack() as stack:
        given, printed, said = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        given.write(text.encode())
        given.seek(0)
        program = start(stack, "program", {"code": code}, limits, printed, [], given, said)
        finished = wait(program, limits.seconds)
        end_all(program)
        refuse_unguarded(program, last_line(printed))
        if not finished:
            return None, f"not finished after {limits.seconds:g} s"
        if program.returncode:
            return None, how_it_ended(program, last_line(said))
        printed.seek(0)
        return printed.read(max(most, MOST_OUTPUT)).decode(errors="replace"), ""


def pipe(stack: ExitStack) -> tuple[int, int]:
    """A pipe whose ends are closed with ``stack``, if they are not before."""
    ends = os.pipe()
    for end in ends:
        stack.callback(close, end)
    return ends


def close(end: int) -> None:
    try:
        os.close(end)
    except OSError:  # closed before
        return


def numpy_folders() -> list[str]:
    """Where numpy lies, and its libraries; empty where it is not installed."""
    spec = find_spec("numpy")
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent
    return [str(path) for path in (folder, folder.with_name("numpy.libs")) if path.is_dir()]


def start(
    stack: ExitStack,
    which: str,
    request: dict,
    limits: Limits,
    output: IO[bytes],
    pipes: list[int],
    given: IO[bytes] | None = None,
    errors: IO[bytes] | None = None,
) -> subprocess.Popen:
    """Starts one of the two processes; it reads ``request`` from a file that only it has open."""
    request |= {
        "seconds": limits.seconds,
        "memory": limits.memory,
        "landlock": landlock_version(),
        "numpy": numpy_folders(),
        "no_sandbox": NO_SANDBOX,
    }
    source = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  the stack closes it
    source.write(json.dumps(request).encode())
    source.seek(0)
    numbers = [source.fileno(), *(pipes or [-1, -1])]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", str(INSIDE / f"{which}.py"), *map(str, numbers)],
        stdin=given or subprocess.DEVNULL,
        stdout=output,
        stderr=errors or subprocess.STDOUT,
        cwd=stack.enter_context(tempfile.TemporaryDirectory()),
        env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
        pass_fds=[n for n in numbers if n >= 0],
    )
    stack.callback(end_all, process)
    return process


def wait(process: subprocess.Popen, seconds: float) -> bool:
    """Waits until it ends; False if it does not in time."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def end_all(*processes: subprocess.Popen) -> None:
    """Ends the processes and whatever they started; one that is ending by itself is given a moment, for its status."""
    for process in processes:
        if process.poll() is None and len(processes) > 1:
            wait(process, 0.2)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def read_verdict(end: int) -> dict:
    """What the tests' process told; empty if nothing."""
    data = b""
    while part := os.read(end, 1 << 16):
        data += part
    return json.loads(data) if data else {}


def last_line(output: IO[bytes]) -> str:
    """The last line of what was printed that is not empty."""
    output.seek(max(0, output.seek(0, os.SEEK_END) - MOST_OUTPUT))
    lines = [line for line in output.read().decode(errors="replace").splitlines() if line.strip()]
    return visible(lines[-1]) if lines else ""


def how_it_ended(process: subprocess.Popen, last: str) -> str:
    if process.returncode < 0:
        return f"ended by {signal.Signals(-process.returncode).name}"
    return last or f"left early with status {process.returncode}"


def refuse_unguarded(process: subprocess.Popen, last: str) -> None:
    """Raises `FirstTokenError` if the process found that it cannot guard itself."""
    if process.returncode == NO_SANDBOX:
        raise FirstTokenError(
            f"programs that a model wrote are not run here, because they cannot be kept from network and files: {last}; "
            "use Linux 5.0 or newer on x86-64 or 64-bit ARM, or leave out the code task"
        )
