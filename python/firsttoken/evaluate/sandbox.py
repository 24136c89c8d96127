"""Running a program that a model wrote: no network, no files but Python's own, no other programs, bounded time and memory.

A fresh Python process without the user's environment limits itself (`sandbox_child`) and only then takes the program. It is a
guard against a model's mistakes and mischief; it is no prison for an attacker with a kernel exploit. Where the system
cannot give the limits, nothing is run; a kernel without landlock can give all but one, see `hides_files`.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from firsttoken.errors import FirstTokenError
from firsttoken.evaluate.sandbox_child import landlock_version

CHILD = Path(__file__).with_name("sandbox_child.py")
MOST_OUTPUT = 1 << 20  # bytes of a program's output that are looked at
NO_SANDBOX = 97  # the child's exit status where it cannot limit itself


@dataclass(frozen=True)
class Limits:
    """Seconds on the clock, and bytes of memory."""

    seconds: float = 10.0
    memory: int = 1 << 30


@dataclass(frozen=True)
class ProgramOutcome:
    """Whether the program ran to its end, and if not, why in a line."""

    passed: bool
    why: str = ""


def hides_files() -> bool:
    """Whether this kernel can keep a program from reading the user's files (landlock, Linux 5.13 and newer)."""
    return landlock_version() > 0


def run_program(program: str, limits: Limits = Limits()) -> ProgramOutcome:
    """Runs a Python program. It passes only if its last line was reached: leaving early, even with status 0, fails.

    Raises `FirstTokenError` where this system cannot sandbox.
    """
    secret = secrets.token_hex(16)
    request = json.dumps({"program": program, "secret": secret, "seconds": limits.seconds, "memory": limits.memory, "hide": hides_files()})
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as told:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(CHILD), str(told.fileno())],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=empty,
            env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},
            start_new_session=True,
            pass_fds=(told.fileno(),),
        )
        try:
            process.communicate(request.encode(), timeout=limits.seconds)
            late = False
        except subprocess.TimeoutExpired:
            late = True
        finally:
            _end(process)
        told.seek(0)
        end = told.read(4096).decode(errors="replace")
        output.seek(max(0, output.seek(0, os.SEEK_END) - MOST_OUTPUT))
        lines = [line for line in output.read().decode(errors="replace").splitlines() if line.strip()]
    last = lines[-1][:200] if lines else ""
    if process.returncode == NO_SANDBOX:
        raise FirstTokenError(
            f"programs that a model wrote are not run here, because they cannot be kept from network and files: {last}; "
            "use Linux 5.0 or newer on x86-64 or 64-bit ARM, or leave out the code task"
        )
    if late:
        return ProgramOutcome(False, f"not finished after {limits.seconds:g} s")
    if process.returncode == 0 and end == secret:
        return ProgramOutcome(True)
    if process.returncode < 0:
        return ProgramOutcome(False, f"ended by {signal.Signals(-process.returncode).name}")
    return ProgramOutcome(False, last or f"left early with status {process.returncode}")


def _end(process: subprocess.Popen) -> None:
    """Ends the child and whatever it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.poll()
    process.wait()
