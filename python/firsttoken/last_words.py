"""What a process leaves for the one that watches it, should it die inside a native library: what it was doing, and what the library said.

Both lie in memory files that the watcher made (`cli.watch`); without one, nothing is kept.
"""

import fcntl
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

ROOM = 4096  # bytes of either that are looked at

_doing: int | None = None
_said: int | None = None


def make() -> bool:
    """Makes both files, for this process and its children. False where the system has no files in memory."""
    global _doing, _said
    try:
        _doing, _said = os.memfd_create("firsttoken-doing"), os.memfd_create("firsttoken-said")
        fcntl.fcntl(_said, fcntl.F_SETFL, os.O_APPEND)
    except (AttributeError, OSError):
        return False
    return True


def say_into(descriptor: int) -> None:
    """Keeps what libraries say in a file that was opened by whoever started this process; does nothing where it is no plain file."""
    global _said
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        _said = os.dup(descriptor)
        fcntl.fcntl(_said, fcntl.F_SETFL, os.O_APPEND)


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Notes what the body does, as in "loading model.tflite"; afterwards what was noted before it."""
    before = b"" if _doing is None else os.pread(_doing, ROOM, 0)
    try:
        now(what)
        yield
    finally:
        _note(before)


def now(what: str) -> None:
    """Notes what is done from here on."""
    _note(what.encode("utf-8", "replace"))


def _note(text: bytes) -> None:
    if _doing is None:
        return
    with suppress(OSError):  # a limit on the size of files (ulimit -f) holds for these too; the work goes on without a note
        os.ftruncate(_doing, 0)
        os.pwrite(_doing, text[:ROOM], 0)


def said_file() -> int | None:
    """A descriptor of its own for what libraries say, emptied; None where nobody watches."""
    if _said is None:
        return None
    os.ftruncate(_said, 0)
    return os.dup(_said)


def read() -> tuple[str, str]:
    """What was being done, and the end of what was said last."""
    if _doing is None or _said is None:
        return "", ""
    size = os.fstat(_said).st_size
    texts = os.pread(_doing, ROOM, 0), os.pread(_said, ROOM, max(0, size - ROOM))
    return texts[0].decode("utf-8", "replace"), texts[1].decode("utf-8", "replace")


def signal_name(number: int) -> str:
    """As in "SIGSEGV"; "signal 35" for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def watched() -> bool:
    """Whether another process tells how this one ends."""
    return _doing is not None or _said is not None
