"""What the machine has to give: memory and disk."""

import os
import shutil
from pathlib import Path

MARGIN = 0.05  # of the memory there is, left to everything else


def available_memory() -> int:
    """Bytes of memory that can be had without swapping, within this process's control group."""
    import psutil

    available = psutil.virtual_memory().available
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        cached = next(
            int(line.split()[1])
            for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        )
        return min(available, int(limit) - used + cached) if limit != "max" else available
    except (OSError, ValueError, StopIteration):
        return available


def available_disk(destination: Path) -> int:
    """Bytes free on the file system that ``destination`` will lie on."""
    place = Path(os.path.abspath(destination))
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
