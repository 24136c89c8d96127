"""Running the command in a process of its own, so that its death can be told: native libraries end a process without a word.

The watching process does nothing but wait, pass signals on and end as the other ended.
"""

import ctypes
import os
import signal
import sys

from firsttoken import last_words

WATCHED = (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FROM_A_PROCESS = 0  # si_code of a signal that kill(2) sent; one from the terminal reaches the other process by itself
PR_SET_PDEATHSIG = 1
QUIET = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)  # asked for by someone, who knows


def split() -> None:
    """Returns in a new process that does the work; this one waits for it and exits as it did. Where the system cannot, just returns."""
    if not hasattr(signal, "sigwaitinfo") or not sys.platform.startswith("linux") or not last_words.make():
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    watcher = os.getpid()
    try:
        child = os.fork()
    except OSError:  # no room for another process: without one, then
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    if child == 0:
        # a watcher that is killed takes this process with it, politely
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != watcher:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    os._exit(watch(child))


def watch(child: int) -> int:
    """Waits for the process and returns its exit code; says in one line what ended it where that was a signal."""
    while True:
        got = signal.sigwaitinfo(WATCHED)
        if got.si_signo != signal.SIGCHLD:
            if got.si_code == FROM_A_PROCESS:
                os.kill(child, got.si_signo)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            continue
        if not os.WIFSIGNALED(status):
            return os.waitstatus_to_exitcode(status)
        number = os.WTERMSIG(status)
        if number not in QUIET:
            print(f"\nerror: {describe(number, *last_words.read())}", file=sys.stderr, flush=True)
        return 128 + number


def describe(number: int, doing: str, said: str) -> str:
    """The line: what ended, by which signal, the library's last words, and what to do."""
    from firsttoken.quiet import complaint_in
    from firsttoken.safe_text import visible

    name = signal.Signals(number).name
    what = f"{visible(doing)}: " if doing else ""
    if number == signal.SIGKILL:
        return f"{what}the system ended firsttoken ({name}), most likely because memory ran out; close other programs, or use a larger machine or a smaller model"
    words = complaint_in(said)
    cause = f", saying {visible(words)!r}" if words else ""
    return (
        f"{what}a native library ended firsttoken ({name}){cause}; nothing that was finished is lost. A file from a stranger may be damaged or hostile: "
        "export it again or leave it; is the disk full? -v shows all that the library says"
    )
