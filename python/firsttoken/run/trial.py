"""Loading an artifact for the first time where the process is its user's own: in another one first, which may die of it.

A command runs in a process that another watches (`cli.watch`); a program that calls `firsttoken.generate` has none, and a file that ends a native
library would end it without a word. What was loaded once is remembered by the file's size and times.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from firsttoken import last_words
from firsttoken.backends.interface import Backend
from firsttoken.bundle.manifest import Manifest
from firsttoken.death import describe
from firsttoken.errors import FirstTokenError
from firsttoken.file_hash import remember_hash, remembered_hash


def try_first(folder: Path, manifest: Manifest, backend: Backend) -> None:
    """Loads the CPU artifact in a process of its own and runs one token. Raises `FirstTokenError` if that process dies of it.

    Any other failure is left to the load that follows, which says it. Does nothing where this process is watched, or the file was loaded before.
    """
    try_file(folder / manifest.cpu.file, backend.name, manifest.facts(manifest.cpu).sha256, "firsttoken.run.trial_worker", folder)


def try_file(artifact: Path, backend: str, sha256: str, module: str, named: Path) -> None:
    """Lets ``module``, in a process of its own, load the artifact by the path ``named``; as `try_first` says."""
    if last_words.watched() or not sys.executable:
        return
    kind = f"-loaded-{backend}"
    if remembered_hash(artifact, kind=kind) == sha256:
        return
    with tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", module, os.fspath(named.resolve())]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)
        if done.returncode == 0:
            remember_hash(artifact, sha256=sha256, kind=kind)
        if done.returncode < 0:
            said.seek(max(0, os.fstat(said.fileno()).st_size - last_words.ROOM))
            words = said.read().decode("utf-8", "replace")
            raise FirstTokenError(describe(-done.returncode, f"loading {artifact}", words, "the process that tried it"))
