"""Asking the process that renders chat templates (`template_worker`): one is started for the first template and kept."""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from datetime import date
from typing import Any

from firsttoken.errors import FirstTokenError
from firsttoken.pipes import piped
from firsttoken.safe_text import visible
from firsttoken.template_limits import SECONDS

ADVICE = "correct chat_template in tokenizer_config.json, or take it out to export without chat"
TIMED_OUT = (signal.SIGPROF, signal.SIGALRM)

_lock = threading.Lock()
_kept: tuple[int, subprocess.Popen[str]] | None = None  # and the process that started it: a fork must not share its pipes


def rendered(template: str, values: dict[str, Any]) -> str:
    """Returns the template's text for ``values``. Raises `FirstTokenError` for one that fails, does not end or wants too much."""
    return rendered_on(template, values, None)[0]


def rendered_on(template: str, values: dict[str, Any], today: date | None) -> tuple[str, bool]:
    """The same on the day ``today`` (None: now), and whether the template asked for the date."""
    question = json.dumps({"template": template, "values": values, "today": today and today.isoformat()}) + "\n"
    with _lock:
        worker = _worker()
        try:
            piped(worker.stdin).write(question)
            piped(worker.stdin).flush()
            line = piped(worker.stdout).readline()
        except (OSError, ValueError):
            line = ""
        except BaseException:
            stop()  # an answer that nobody has read must not be the next one's
            raise
        if not line.endswith("\n"):
            stop()
            raise FirstTokenError(f"the chat template cannot be rendered ({_death(worker)}); {ADVICE}")
    said = json.loads(line)
    if "text" not in said:
        raise FirstTokenError(f"the chat template cannot be rendered ({visible(said.get('error'))}); {ADVICE}")
    return said["text"], said["dated"]


def _worker() -> subprocess.Popen[str]:
    global _kept
    if _kept is None or _kept[0] != os.getpid() or _kept[1].poll() is not None:
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        command = [sys.executable, "-m", "firsttoken.template_worker"]
        # what Python says of an end by a signal is said here, in one line
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": paths},
        )
        _kept = os.getpid(), process
    return _kept[1]


def stop() -> None:
    """Ends the process, if this one started it."""
    global _kept
    kept, _kept = _kept, None
    if kept is None or kept[0] != os.getpid():
        return
    kept[1].kill()
    kept[1].wait()
    for pipe in (kept[1].stdin, kept[1].stdout):
        try:
            piped(pipe).close()
        except OSError:  # what was written to a process that is gone
            continue


def _death(worker: subprocess.Popen[str]) -> str:
    code = worker.wait()
    if -code in TIMED_OUT:
        return f"it computes for more than {SECONDS:g} seconds"
    return f"the process that renders it ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"


atexit.register(stop)
