"""Running the command in a process of its own, so that its death can be told: native libraries end a process without a word.

The watching process does nothing but wait, pass signals on and end as the other ended.
"""

import os
import signal
import sys
import time
from contextlib import suppress

from firsttoken import last_words
from firsttoken.cli.interrupts import AT_ONCE
from firsttoken.parent_death import end_with_parent

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PASSED_ON = (*ENDING, signal.SIGTSTP, signal.SIGCONT)
PATIENCE = 3  # requests to end
WATCHED = (signal.SIGCHLD, *PASSED_ON)
FROM_THE_KERNEL = 0  # si_code above it: the terminal sent the signal, and the other process has it too
QUIET = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT)  # asked for by someone, who knows
SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it


def split() -> None:
    """Returns in a new process that does the work; this one waits for it and exits as it did. Where the system cannot, just returns."""
    if not hasattr(signal, "sigwaitinfo") or not sys.platform.startswith("linux") or not last_words.make():
        return
    # ignored by whoever started us, the end of a child would be told to nobody
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    watcher = os.getpid()
    try:
        child = os.fork()
    except OSError:  # no room for another process: without one, then
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    if child == 0:
        end_with_parent(watcher)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    code = 1
    try:
        code = watch(child)
    finally:  # whatever happens here, the work must not be begun a second time
        os._exit(code)


def watch(child: int) -> int:
    """Waits for the process and returns its exit code; says in one line what ended it where that was a signal.

    One that is asked to end `PATIENCE` times and does not, since a library never returns to Python, is killed.
    """
    asked: list[float] = []
    while True:
        got = signal.sigwaitinfo(WATCHED)
        if got.si_signo != signal.SIGCHLD:
            if got.si_signo in ENDING and time.monotonic() - (asked or [-AT_ONCE])[-1] >= AT_ONCE:
                asked.append(time.monotonic())
                if len(asked) >= PATIENCE:
                    os.kill(child, signal.SIGKILL)
            # of a terminal that goes away only the first process of a session is told
            if got.si_code <= FROM_THE_KERNEL or got.si_signo == signal.SIGHUP:
                os.kill(child, got.si_signo)
            if got.si_signo == signal.SIGTSTP:
                stop()
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:  # it was only stopped, or went on
            continue
        if not os.WIFSIGNALED(status):
            return os.waitstatus_to_exitcode(status)
        number = os.WTERMSIG(status)
        with suppress(OSError, ValueError):  # nobody listens any more
            if sys.stderr.isatty():
                print(SHOW_CURSOR, file=sys.stderr)
            if number not in QUIET and len(asked) < PATIENCE:
                from firsttoken.death import describe  # not before: the watcher is to be ready at once

                print(f"error: {describe(number, *last_words.read())}", file=sys.stderr, flush=True)
        return 128 + number


def stop() -> None:
    """Stops this process as Ctrl-Z does, until it is told to go on."""
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTSTP])  # here it stops
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTSTP])
