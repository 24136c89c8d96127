"""What a signal that asks firsttoken to end does: an exception, so that what was being built is removed on the way out."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

AT_ONCE = 0.5  # seconds in which a second request is the same one: a whole process group may be told, and the watcher passes it on


def end_politely() -> None:
    """SIGINT raises `KeyboardInterrupt`, SIGTERM and SIGHUP leave with 128 and their number; what the starter ignores stays ignored."""
    asked = [-AT_ONCE]

    def ask(number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - asked[0] < AT_ONCE:
            return
        asked[0] = now
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, ask)


@contextmanager
def goes_on(kept: Callable[[], str]) -> Iterator[None]:
    """Says in a line, where Ctrl-C ends the block, what is ``kept`` of the work and that the same command goes on from there; nothing where that is empty."""
    try:
        yield
    except KeyboardInterrupt:
        if what := kept():
            print(f"interrupted; {what}: give the same command again, it goes on from there", file=sys.stderr)
        raise
