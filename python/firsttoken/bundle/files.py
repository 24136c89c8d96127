"""The bundle folder: where it goes, whether its files are those the manifest names, and our cache folder."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

from firsttoken.bundle.manifest import MANIFEST_FILE, FileFacts, Manifest
from firsttoken.cache_folder import cache_folder
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent

READ_BYTES = 4 << 20
STAMPS_KEPT = 1024  # a bundle has about five files


def check_destination(destination: Path, force: bool) -> None:
    """Raises `FirstTokenError` if a bundle cannot be written at ``destination``; changes nothing.

    An existing bundle needs ``force``; a folder that is not a bundle is never replaced.
    """
    for place in (destination, *destination.parents):
        if place.is_dir():
            break
        if os.path.lexists(place):
            kind = "a dangling link" if place.is_symlink() else "a file"
            raise FirstTokenError(f"output {place}: is {kind}; expected a folder, choose another with -o")
    if not os.access(destination.parent if place == destination else place, os.W_OK | os.X_OK):
        raise FirstTokenError(f"output {place}: not writable; choose another with -o")
    if place != destination or not any(destination.iterdir()):
        return
    if not (destination / MANIFEST_FILE).is_file():
        raise FirstTokenError(
            f"output {destination}: is a folder with other files, not a bundle, and will not be replaced; choose another with -o"
        )
    if not force:
        raise FirstTokenError(f"output {destination}: a bundle is already there; replace it with --force or choose another with -o")


def hash_file(path: Path, report: Report = silent) -> str:
    """Returns the SHA-256 of a file as hexadecimal text."""
    digest = hashlib.sha256()
    size, done = path.stat().st_size, 0
    with open(path, "rb", buffering=0) as stream:
        while block := stream.read(READ_BYTES):
            digest.update(block)
            done += len(block)
            report("hash", done, size, "B")
    return digest.hexdigest()


def file_facts(path: Path, report: Report = silent) -> FileFacts:
    """Returns what the manifest says of a file that was just written, and remembers its hash."""
    sha256 = hash_file(path, report)
    remember_hash(path, sha256)
    return FileFacts(sha256=sha256, bytes=path.stat().st_size)


def check_files(folder: Path, manifest: Manifest, report: Report = silent) -> None:
    """Checks size and SHA-256 of every file of the bundle against the manifest. Raises `FirstTokenError` for the first that differs.

    A file found right is remembered, so that the next start does not read all of it again.
    """
    for name, facts in manifest.files.items():
        _check_file(Path(folder) / name, facts, report)


def _check_file(path: Path, facts: FileFacts, report: Report) -> None:
    if not path.is_file():
        raise FirstTokenError(f"bundle {path.parent}: {path.name} is missing; export again")
    size = path.stat().st_size
    if size != facts.bytes:
        raise FirstTokenError(
            f"{path}: {size} bytes, but the manifest says {facts.bytes}; the file is damaged or was replaced, export or copy it again"
        )
    if remembered_hash(path) == facts.sha256:
        return
    got = hash_file(path, report)
    if got != facts.sha256:
        raise FirstTokenError(
            f"{path}: SHA-256 {got[:12]}…, but the manifest says {facts.sha256[:12]}…; the file is damaged or was replaced, export or copy it again"
        )
    remember_hash(path, got)


def _stamp(path: Path) -> tuple[Path, list[int]] | None:
    folder = cache_folder()
    if folder is None:
        return None
    facts = path.stat()
    # The inode and not the path: a bundle keeps its stamp when it is renamed into place. Any write changes ctime.
    return folder / "verified" / f"{facts.st_dev:x}-{facts.st_ino:x}.json", [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


def remembered_hash(path: Path) -> str | None:
    """Returns the SHA-256 that `remember_hash` noted for this very file, or None if there is none or the file changed."""
    stamp = _stamp(path)
    if stamp is None:
        return None
    try:
        noted = json.loads(stamp[0].read_text(encoding="utf-8"))
        return noted["sha256"] if noted["facts"] == stamp[1] else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remember_hash(path: Path, sha256: str) -> None:
    """Notes a file's SHA-256 in the cache folder; does nothing where there is none."""
    stamp = _stamp(path)
    if stamp is None:
        return
    try:
        stamp[0].parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=stamp[0].parent, suffix=".new", delete=False) as stream:
            json.dump({"sha256": sha256, "facts": stamp[1]}, stream)
        os.replace(stream.name, stamp[0])
        notes = sorted(stamp[0].parent.iterdir(), key=lambda note: note.stat().st_mtime)
        for note in notes[:-STAMPS_KEPT]:
            note.unlink(missing_ok=True)
    except OSError:
        pass
