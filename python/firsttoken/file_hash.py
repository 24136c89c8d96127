"""SHA-256 of files, remembered between starts by what the system says of a file: any write changes its time of change."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from firsttoken.atomic_file import process_lives
from firsttoken.cache_folder import cache_folder
from firsttoken.plain_file import open_plain, parse_json, read_bytes
from firsttoken.progress import Report, silent

READ_BYTES = 4 << 20
STAMPS_KEPT = 1024  # a bundle has about five files
SETTLED_SECONDS = 1.0  # since a stranger's last write: within one tick of the clock a second write would leave the same times


def hash_file(path: Path, report: Report = silent) -> str:
    """Returns the SHA-256 of a file as hexadecimal text. Raises `OSError` for what is no plain file."""
    digest = hashlib.sha256()
    size, done = path.stat().st_size, 0
    with open_plain(path) as stream:
        while block := stream.read(READ_BYTES):
            digest.update(block)
            done += len(block)
            report("hash", done, size, "B")
    return digest.hexdigest()


def _stamp(paths: Sequence[Path], kind: str) -> tuple[Path, list[list[int]]] | None:
    folder = cache_folder()
    if folder is None:
        return None
    try:
        facts = [path.stat() for path in paths]
    except OSError:  # whoever reads the file says why it cannot be read
        return None
    # The inode and not the path: a bundle keeps its stamp when it is renamed into place.
    name = f"{facts[0].st_dev:x}-{facts[0].st_ino:x}{kind}.json"
    return folder / "verified" / name, [[f.st_size, f.st_mtime_ns, f.st_ctime_ns, f.st_ino] for f in facts]


def remembered_hash(*paths: Path, kind: str = "") -> str | None:
    """Returns the SHA-256 that `remember_hash` noted for these very files, or None if there is none or one changed."""
    stamp = _stamp(paths, kind)
    if stamp is None:
        return None
    try:
        noted = parse_json(read_bytes(stamp[0]))
        return noted["sha256"] if noted["facts"] == stamp[1] else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remember_hash(*paths: Path, sha256: str, kind: str = "") -> None:
    """Notes the SHA-256 of files, or of what ``kind`` says of them, in the cache folder; does nothing where there is none."""
    stamp = _stamp(paths, kind)
    if stamp is None or (kind and time.time() - max(path.stat().st_ctime for path in paths) < SETTLED_SECONDS):
        return
    try:
        stamp[0].parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=stamp[0].parent, prefix=f"{os.getpid()}-", suffix=".new", delete=False) as stream:
            json.dump({"sha256": sha256, "facts": stamp[1]}, stream)
        os.replace(stream.name, stamp[0])
        notes = sorted(stamp[0].parent.iterdir(), key=lambda note: note.stat().st_mtime)
        left = [note for note in notes if note.suffix == ".new" and not process_lives(int(note.name.partition("-")[0]))]
        for note in {*notes[:-STAMPS_KEPT], *left}:
            note.unlink(missing_ok=True)
    except (OSError, ValueError):  # a cache: the next start reads the file again
        return
