"""What a signal that asks firsttoken to end does: an exception, so that what was being built is removed on the way out."""

import signal
import sys
import time
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
