"""Disks and memories of a chosen size, for tests of what happens when they are full. Both need rights that not every machine gives."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

MEMORY_GROUPS = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")  # version 1, version 2


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of ``size`` bytes at ``folder``; the test is skipped where none can be mounted."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs a disk of its own: mount says {done.stderr.strip()!r}; run as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def free_bytes(folder: Path) -> int:
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize


@contextmanager
def small_memory(name: str, size: int) -> Iterator[Path]:
    """A control group of ``size`` bytes of memory, without swap; gives its ``cgroup.procs``. The test is skipped where none can be made."""
    version1 = (MEMORY_GROUPS[0] / "memory.limit_in_bytes").exists()
    group = MEMORY_GROUPS[0 if version1 else 1] / name
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if version1 else "memory.max")).write_text(str(size))
    except OSError as error:
        if group.exists():
            group.rmdir()
        pytest.skip(f"needs a control group for memory ({error}); run as root where they can be written")
    try:
        yield group / "cgroup.procs"
    finally:
        for _ in range(50):  # what the system kills is gone a moment later
            with suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"left running: {(group / 'cgroup.procs').read_text().split()}")
