"""Whether a file's pages are in memory, and dropping them, so that a cold start really reads from the disk."""

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

PageState = Literal["dropped", "cached", "unknown"]
DROPPED = 0.02  # share of pages that may stay behind


def resident_share(path: Path) -> float | None:
    """Returns which share of a file's pages is in the page cache, or None where the system does not tell (mincore, Linux man-pages 2)."""
    size = path.stat().st_size
    if not size:
        return 0.0
    try:
        call = ctypes.CDLL(None, use_errno=True).mincore
    except (OSError, AttributeError):
        return None
    pages = -(-size // mmap.PAGESIZE)
    vector = (ctypes.c_ubyte * pages)()
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_COPY) as mapped:
        view = ctypes.c_char.from_buffer(mapped)
        try:
            code = call(ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(size), vector)
        finally:
            del view
    return sum(byte & 1 for byte in vector) / pages if code == 0 else None


def drop(paths: Iterable[Path]) -> PageState:
    """Asks the kernel to forget the files' pages, and looks whether it did.

    Returns "dropped", "cached" where most of a file stayed (it is on a memory file system, or another process has it
    mapped), or "unknown" where the system cannot tell.
    """
    state: PageState = "dropped"
    for path in paths:
        try:
            with open(path, "rb") as stream:
                os.fsync(stream.fileno())  # a page not yet written cannot be dropped
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except (OSError, AttributeError):
            return "unknown"
        share = resident_share(path)
        if share is None:
            return "unknown"
        if share > DROPPED:
            state = "cached"
    return state
