"""A command under watch, for test_watch.py: ``watched.py MODE [ARGUMENT]``."""

import os
import signal
import sys
import time

from firsttoken import last_words
from firsttoken.cli import interrupts, watch
from firsttoken.quiet import quiet_runtime


def die(number: str) -> None:
    """As a native library would: its words go to descriptor 2, which is silenced, and no Python runs any more."""
    with last_words.doing("loading model.tflite"), quiet_runtime():
        os.write(2, b"INFO: hello\nERROR: failed to map \x1b[31mpart 7\nINFO: bye\n")
        os.kill(os.getpid(), int(number))
        time.sleep(60)


def wait() -> None:
    """Until asked to end; then tidies up for longer than a second request would need to disturb it."""
    try:
        print("worker", os.getpid(), flush=True)
        time.sleep(60)
    finally:
        for _ in range(20):
            time.sleep(0.01)
        print("tidied", flush=True)


def deaf() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wait()


def tick() -> None:
    print("worker", os.getpid(), flush=True)
    signal.signal(signal.SIGWINCH, lambda *_: print("columns", os.get_terminal_size(0).columns, flush=True))
    time.sleep(60)


def main() -> None:
    watch.split()
    interrupts.end_politely()
    mode, *arguments = sys.argv[1:]
    if mode == "exit":
        sys.exit(int(arguments[0]))
    if mode == "read":
        print(sys.stdin.read().upper(), end="")
        return
    {"die": die, "wait": wait, "deaf": deaf, "tick": tick}[mode](*arguments)


try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
