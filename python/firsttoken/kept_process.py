"""A process that answers questions, one JSON line for each: one is started for the first question and kept.

For work on what strangers wrote, which may not end, or may want all memory: the process puts limits on itself and dies of them.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

from firsttoken.pipes import piped

TIMED_OUT = (signal.SIGPROF, signal.SIGALRM)


class EndedError(Exception):
    """The process ended before it answered; the text says how."""


class KeptProcess:
    """Runs ``python -m module``, which reads and writes lines of JSON. ``seconds`` is its own limit on computing, for what is said of its death."""

    def __init__(self, module: str, seconds: float) -> None:
        self.module, self.seconds = module, seconds
        self._lock = threading.Lock()
        self._kept: tuple[int, subprocess.Popen[str]] | None = None  # and the process that started it: a fork must not share its pipes
        atexit.register(self.stop)

    @property
    def process(self) -> subprocess.Popen[str] | None:
        """The process that would be asked next, where one runs."""
        return self._kept[1] if self._kept else None

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Returns the answer. Raises `EndedError` where the process died of the question; the next one has a new process."""
        with self._lock:
            worker = self._worker()
            try:
                piped(worker.stdin).write(json.dumps(question) + "\n")
                piped(worker.stdin).flush()
                line = piped(worker.stdout).readline()
            except (OSError, ValueError):
                line = ""
            except BaseException:
                self.stop()  # an answer that nobody has read must not be the next one's
                raise
            if not line.endswith("\n"):
                self.stop()
                raise EndedError(self._death(worker))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _worker(self) -> subprocess.Popen[str]:
        if self._kept is None or self._kept[0] != os.getpid() or self._kept[1].poll() is not None:
            paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
            # what Python says of an end by a signal is said here, in one line
            process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                env={**os.environ, "PYTHONPATH": paths},
            )
            self._kept = os.getpid(), process
        return self._kept[1]

    def stop(self) -> None:
        """Ends the process, if this one started it."""
        kept, self._kept = self._kept, None
        if kept is None or kept[0] != os.getpid():
            return
        kept[1].kill()
        kept[1].wait()
        for pipe in (kept[1].stdin, kept[1].stdout):
            try:
                piped(pipe).close()
            except OSError:  # what was written to a process that is gone
                continue

    def _death(self, worker: subprocess.Popen[str]) -> str:
        code = worker.wait()
        if -code in TIMED_OUT:
            return f"it computes for more than {self.seconds:g} seconds"
        return f"the process ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
