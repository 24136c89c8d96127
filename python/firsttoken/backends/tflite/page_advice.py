"""What the kernel is told of a model's files: which of their pages will be read, and how.

Of an artifact whose packed weights lie in another file, a prompt reads single rows of the embedding table; by default the kernel reads many pages around
each (``MADV_RANDOM`` ends that: madvise(2)). Of the packed file all is read, in the order in which it was packed, so it is asked for beforehand
(``POSIX_FADV_WILLNEED``: posix_fadvise(2)), where memory has room for it. Both are advice: nothing but time depends on it.
"""

import ctypes
import os
import threading
from pathlib import Path

MADV_RANDOM = 1
BLOCK = 128 << 10  # bytes asked for at a time: the kernel reads no more for one call than its read-ahead, by default that
SAMPLES = 16  # places that are looked at to tell whether a file is in memory
SPARE = 4  # times its size a file needs of free memory to be read ahead


def read_ahead(path: Path) -> threading.Thread | None:
    """Asks for a file's pages, in its order, while the caller goes on; returns the thread that does, or None where they are there or not worth their memory."""
    try:
        size = path.stat().st_size
        if not size or size * SPARE > available_memory():
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    if is_cached(descriptor, size):
        os.close(descriptor)
        return None

    def ask() -> None:
        try:
            for start in range(0, size, BLOCK):
                os.posix_fadvise(descriptor, start, BLOCK, os.POSIX_FADV_WILLNEED)
        except OSError:
            return  # the pages come when they are read
        finally:
            os.close(descriptor)

    thread = threading.Thread(target=ask, name="read ahead", daemon=True)
    thread.start()
    return thread


def available_memory() -> int:
    """Bytes that can be had without swapping (``MemAvailable``: proc_meminfo(5)). Raises `OSError` where the system does not tell."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("no MemAvailable in /proc/meminfo")


def is_cached(descriptor: int, size: int) -> bool:
    """Whether a file's pages are in memory, by some of them: those that can be read without waiting (``RWF_NOWAIT``: preadv2(2))."""
    byte = bytearray(1)
    try:
        for place in range(SAMPLES):
            os.preadv(descriptor, [byte], size * place // SAMPLES, os.RWF_NOWAIT)
    except (OSError, AttributeError):
        return False
    return True


def read_single_pages(path: Path) -> int:
    """Tells the kernel that of this process's mappings of a file single pages are read; returns how many bytes were advised so."""
    try:
        wanted, maps = os.stat(path), Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        advise = ctypes.CDLL(None, use_errno=True).madvise
    except (OSError, AttributeError):
        return 0
    advised = 0
    for line in maps.splitlines():
        addresses, _, _, device, inode, *_ = line.split(maxsplit=5)
        major, _, minor = device.partition(":")
        if (int(inode), os.makedev(int(major, 16), int(minor, 16))) != (wanted.st_ino, wanted.st_dev):
            continue
        start, end = (int(address, 16) for address in addresses.split("-"))
        if advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_RANDOM) == 0:
            advised += end - start
    return advised
