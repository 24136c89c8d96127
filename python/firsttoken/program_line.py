"""The first line that another program says: the program may be broken, wait without end, or talk without end."""

import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress

from firsttoken.pipes import piped
from firsttoken.safe_text import visible

SECONDS = 5.0
MOST_BYTES = 1 << 16
LONGEST = 120  # characters of the line


def first_line(command: list[str], seconds: float = SECONDS) -> str:
    """Runs ``command`` and returns the first line it writes, made fit to show. Raises `OSError` for a program that does not run,
    fails, says nothing, or has not finished after ``seconds``."""
    # a group of its own, so that whatever it starts ends with it
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        said = _read(process, time.monotonic() + seconds)
        code = process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        piped(process.stdout).close()
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    if code:
        ending = f"ended with {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise OSError(f"{ending}{f', saying {visible(lines[0], LONGEST)!r}' if lines else ''}")
    if not lines:
        raise OSError("says nothing")
    return visible(lines[0], LONGEST)


def _read(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    stream, said = piped(process.stdout), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(min(left, 0.1)):
                if process.poll() is not None:  # it has ended, and what it started still holds its pipe
                    return bytes(said)
                continue
            block = os.read(stream.fileno(), 1 << 12)
            said += block
            if not block:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
                    return bytes(said)
                break
            if len(said) > MOST_BYTES:
                raise OSError(f"says more than {MOST_BYTES} bytes")
    raise OSError("does not answer in time")
