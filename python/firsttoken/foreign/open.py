"""Opening anyone's file: which format it is in, what it offers, and loading it where its death can be told."""

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from firsttoken import last_words
from firsttoken.backends.runner import Runner
from firsttoken.checkpoint import Checkpoint
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need
from firsttoken.file_hash import hash_file, remember_hash, remembered_hash
from firsttoken.foreign.facts import Offered, Subject
from firsttoken.plain_file import open_plain, why
from firsttoken.quiet import quiet_runtime
from firsttoken.run.trial import try_file


@dataclass(frozen=True)
class Format:
    """``backend`` is ours whose kernels compute it; ``module`` reads and runs it, and needs ``extra``."""

    name: str
    magic: bytes
    at: int
    backend: str
    module: str
    extra: str | None = None

    @property
    def reader(self) -> ModuleType:
        """The module: ``offered``, ``structure``, ``open_runner`` and ``preload``."""
        return import_module(self.module)


FORMATS = (
    Format(".tflite", b"TFL3", 4, "tflite-xnnpack", "firsttoken.foreign.signature_file"),
    Format(".litertlm", b"LITERTLM", 0, "litertlm-cpu", "firsttoken.foreign.signature_file", "litertlm"),
    Format(".pte", b"ET1", 4, "executorch-xnnpack", "firsttoken.foreign.program", "executorch"),
)
NAMES = ", ".join(each.name for each in FORMATS)


def is_file(path: Path) -> bool:
    """Whether a path is to be taken for a file and not for a bundle's folder."""
    return os.path.lexists(path) and not os.path.isdir(path)


def format_of(path: Path) -> Format:
    """The format of a file by its first bytes. Raises `FirstTokenError` for none that is known, or an extra that is not installed."""
    try:
        with open_plain(path) as stream:
            start = stream.read(16)
    except OSError as error:
        raise FirstTokenError(f"{path}: cannot be read ({why(error)})") from None
    found = next((each for each in FORMATS if start[each.at : each.at + len(each.magic)] == each.magic), None)
    if found is None:
        raise FirstTokenError(f"{path}: is no {NAMES} file (it begins {start[:8]!r}); give one of these, or a bundle's folder")
    if found.extra is not None:
        need(found.extra, f"running {path}")
    return found


def hash_of(path: Path) -> str:
    """The SHA-256 of a file, remembered. Raises `FirstTokenError`."""
    try:
        sha256 = remembered_hash(path)
        if sha256 is None:
            sha256 = hash_file(path)
            remember_hash(path, sha256=sha256)
        return sha256
    except OSError as error:
        raise FirstTokenError(f"{path}: cannot be read ({why(error)})") from None


def read_subject(path: Path, source: Checkpoint, cache_length: int | None = None, begin: int | None = None) -> Subject:
    """What a file is together with the checkpoint that it should be. Raises `FirstTokenError`."""
    found = format_of(path)
    try_first(path, found)
    with last_words.doing(f"reading {path}"):
        offered: Offered = found.reader.offered(path)
    return Subject.of(path, offered, source, cache_length, begin)


def open_file(subject: Subject, threads: int | None = None, kept: bool = True) -> Runner:
    """Loads a file in its own runtime, with ``threads`` threads (default: the machine's cores, 4 at most). Raises `FirstTokenError`.

    With ``kept`` false nothing is used that earlier loads left in a cache.
    """
    path = subject.path
    found = format_of(path)
    with last_words.doing(f"loading {path}"), quiet_runtime():
        runner: Runner = found.reader.open_runner(path, subject, threads, kept)
    last_words.now(f"running {path}")
    return runner


def try_first(path: Path, found: Format) -> None:
    """Reads a file and runs two tokens in a process of its own, where this one is not watched. Raises `FirstTokenError` if that dies of it."""
    if not last_words.watched():
        try_file(path, found.backend, hash_of(path), "firsttoken.foreign.trial_worker", path)
