"""Compiling and running Java."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from android.failure import BuildError
from android.places import program

RELEASE = "17"


def classpath(*items: Path) -> str:
    return os.pathsep.join(str(item) for item in items)


def javac(sources: Iterable[Path], into: Path, libraries: Iterable[Path] = ()):
    """Compiles Java ``sources`` into the folder ``into``. Raises `BuildError` with the compiler's messages."""
    into.mkdir(parents=True, exist_ok=True)
    files = sorted(sources)
    done = subprocess.run(
        [program("javac"), "--release", RELEASE, "-nowarn", "-d", into, "-cp", classpath(*libraries), *files],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise BuildError(f"{files[0].parent.name} does not compile:\n" + "\n".join((done.stdout + done.stderr).splitlines()[:40]))


def tool(command: list, what: str) -> str:
    """Runs a program and returns what it said. Raises `BuildError` with its messages."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise BuildError(f"{what} failed:\n" + "\n".join(lines[:40]))
    return done.stdout
