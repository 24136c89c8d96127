"""Kills a process at every line of `firsttoken.bundle.atomic` in turn and prints what is found each time.

Run as a program: PARENT MODE, where MODE is "exchange" or "rename", then "new" or "replace". One line a kill:
state right after it, state after the next run's cleaning, hidden names left then.
"""

import os
import signal
import sys
from pathlib import Path

from firsttoken.bundle import atomic


def build(destination: Path, version: str, replace: bool):
    with atomic.Staging(destination) as staging:
        for name in ("model", "tokenizer", "manifest.json"):
            (staging.folder / name).write_text(version)
        staging.commit(replace=replace)


def state(destination: Path) -> str:
    """ "absent", the version if all three files have the same one, or "broken"."""
    if not destination.exists():
        return "absent"
    versions = {
        name: (destination / name).read_text() if (destination / name).exists() else "" for name in ("model", "tokenizer", "manifest.json")
    }
    return versions["model"] if len(set(versions.values())) == 1 and versions["model"] else "broken"


def killed_at(count: int, destination: Path, replace: bool) -> bool:
    """Builds in a child that dies at its ``count``-th line of atomic.py. Returns whether it came that far."""
    child = os.fork()
    if child == 0:
        left = count

        def trace(frame, event, argument):
            nonlocal left
            if frame.f_code.co_filename != atomic.__file__:
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        build(destination, "new", replace)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def main(parent: Path, mode: str, start: str):
    if mode == "rename":
        atomic.exchange = lambda one, other: False
    count = 0
    while True:
        count += 1
        place = parent / str(count)
        destination = place / "bundle"
        place.mkdir()
        if start == "replace":
            build(destination, "old", False)
        killed = killed_at(count, destination, start == "replace")
        before = state(destination)
        atomic.clean(place)
        print(before, state(destination), ",".join(sorted(p.name for p in place.iterdir() if p.name != "bundle")) or "-")
        if not killed:
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
