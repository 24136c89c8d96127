"""Memory that a training frees and asks for again in every step stays with the process.

By default glibc hands large blocks back to the system as they are freed, and the system clears every page of them as they are taken again: on a
CPU a tenth of a step's time (docs/bigger-machines.md). What is held at once does not become more.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3), malloc.h
NEVER = 2**31 - 1  # bytes, nearly
AFTERWARDS = {MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: 64 << 20}  # where glibc's own thresholds, which grow, end
OWN_CHOICE = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")  # whoever sets one has chosen how memory is kept


@contextmanager
def kept_memory() -> Iterator[bool]:
    """Yields whether freed memory is kept: not with another C library, nor where the environment chooses. At the end all that is free goes back."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    chosen = any(name.startswith(OWN_CHOICE) for name in os.environ)
    if library is None or chosen or not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        yield False
        return
    kept = bool(library.mallopt(MMAP_THRESHOLD, NEVER)) and bool(library.mallopt(TRIM_THRESHOLD, NEVER))
    try:
        yield kept
    finally:
        for threshold, size in AFTERWARDS.items():
            library.mallopt(threshold, size)
        library.malloc_trim(0)
