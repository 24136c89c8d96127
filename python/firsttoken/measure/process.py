"""The bench's end of a worker process: starting it, asking it, and saying in one line how it died."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from firsttoken.last_words import signal_name
from firsttoken.pipes import piped
from firsttoken.quiet import COMPLAINT, is_verbose
from firsttoken.safe_text import visible

END_SECONDS = 5.0  # a worker that is told to end gets this long


class ProcessFailed(Exception):
    """A run that did not end: the stage it stopped in, and why."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(f"{stage}: {message}")
        self.stage, self.message = stage, message


class Process:
    """A `firsttoken.measure.worker`; ends with the ``with`` block. ``words`` are a file's checkpoint and cache length."""

    def __init__(self, bundle: Path, threads: int, words: Sequence[str] = ()) -> None:
        self.errors = None if is_verbose() else tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        command = [sys.executable, "-m", "firsttoken.measure.worker", os.fspath(bundle), str(threads), str(os.getpid()), *words]
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, encoding="utf-8"
        )
        self.ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_ready(self) -> None:
        """Waits until the runtime is imported. Raises `ProcessFailed`."""
        if not self.ready:
            self._answer()
            self.ready = True

    def run(self, **job: str | int | bool | None) -> dict:
        """Runs one job and returns the worker's answer. Raises `ProcessFailed`."""
        self.wait_ready()
        try:
            print(json.dumps(job), file=self.child.stdin, flush=True)
        except BrokenPipeError:
            raise self._death() from None
        return self._answer()

    def cpu_seconds(self) -> float:
        """CPU seconds the process has used so far."""
        import psutil

        try:
            times = psutil.Process(self.child.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return times.user + times.system

    def close(self) -> None:
        """Ends the process, by force where asking does not help."""
        with suppress(BrokenPipeError):  # it has ended already
            piped(self.child.stdin).close()
        try:
            self.child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        piped(self.child.stdout).close()
        if self.errors:
            self.errors.close()

    def _answer(self) -> dict:
        line = piped(self.child.stdout).readline()
        if not line.endswith("\n"):
            raise self._death()
        answer = json.loads(line)
        if "message" in answer:
            raise ProcessFailed(answer["stage"], answer["message"])
        return answer

    def _death(self) -> ProcessFailed:
        code = self.child.wait()
        said = self._said()
        if code < 0:
            name = signal_name(-code)
            if name == "SIGKILL":
                return ProcessFailed("process", "ended by SIGKILL, probably because memory ran out")
            return ProcessFailed("process", f"a native library ended it ({name}){said}; is the bundle from a stranger, or the disk full?")
        return ProcessFailed("process", f"ended with status {code}{said}")

    def _said(self) -> str:
        """The last complaint on its standard error, else the last line, behind a colon."""
        if not self.errors:
            return ""
        self.errors.seek(0)
        lines = [line for line in self.errors.read().decode(errors="replace").splitlines() if line.strip()]
        line = next((line for line in reversed(lines) if COMPLAINT.search(line)), lines[-1] if lines else "")
        return f": {visible(line.strip()[:300])}" if line else ""
