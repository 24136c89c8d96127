"""Where XNNPACK keeps a model's packed weights between starts.

The runtime notices neither a stale, a half-written nor a damaged file. So the name carries the artifact's hash and the runtime's version,
a new file is packed under another name and renamed when it is complete, and beside it lies a note of its size, times and SHA-256: a
file that is no longer as noted is read once, and packed anew unless its content is what it was.
"""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from firsttoken.atomic_file import write_text
from firsttoken.cache_folder import cache_folder
from firsttoken.errors import FirstTokenError
from firsttoken.file_hash import hash_file
from firsttoken.units import readable

KEPT = 8  # files; a packed file is about as large as its artifact, so the least recently used ones go
NOTE = ".json"
PACKED_COPIES, PACKED_MARGIN = 1.15, 8 << 20  # of an artifact's bytes: what its packed file takes, measured, and erring upwards


class PackedWeights:
    """``file`` is where to load packed weights from or to pack them into, None to pack in memory; ``note`` says why, if that is news."""

    def __init__(self, file: Path | None, note: str = "") -> None:
        self.file, self.note = file, note


@contextmanager
def packed_weights(
    artifact_sha256: str, artifact_bytes: int = 0, package: str = "ai-edge-litert", cpu: str = ""
) -> Iterator[PackedWeights]:
    """Gives the place for packed weights while the body loads the model; ``cpu`` names the kind of CPU, for a runtime that does not look at it itself.

    It is in memory where no cache folder can be written, or its disk has no room for ``artifact_bytes`` more: a runtime that finds the
    disk full while it packs ends the process. If the body raises, a file it had begun is removed.
    """
    folder = writable_folder()
    if folder is None:
        yield PackedWeights(None)
        return
    prune(folder)
    complete = packed_file(folder, artifact_sha256, package, cpu)
    if is_whole(complete):
        os.utime(note_of(complete))  # marks it as used
        yield PackedWeights(complete)
        return
    partial = folder / f"{complete.name}.{os.getpid()}.partial"
    needed = int(artifact_bytes * PACKED_COPIES) + PACKED_MARGIN
    if not has_room(partial, needed):
        yield PackedWeights(None, f"packed weights are kept in memory: {folder} has no room for {readable(needed)} (starts are slower; free some space, or set XDG_CACHE_HOME)")  # fmt: skip
        return
    try:
        yield PackedWeights(partial)
        if partial.exists() and partial.stat().st_size:
            keep(partial, complete)  # the runtime has it open and mapped already
            prune(folder)
    finally:
        partial.unlink(missing_ok=True)


def packed_file(folder: Path, artifact_sha256: str, package: str = "ai-edge-litert", cpu: str = "") -> Path:
    """Returns where an artifact's packed weights lie in ``folder`` once they are packed."""
    return folder / f"{artifact_sha256}.{package}-{version(package)}{cpu and f'.{cpu}'}.cache"


def note_of(packed: Path) -> Path:
    return packed.with_name(packed.name + NOTE)


def facts_of(path: Path) -> list[int]:
    """Size and times; any write changes the last."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


def keep(partial: Path, complete: Path) -> None:
    """Puts a packed file in its place, with its note. Where that fails the next start packs again."""
    sha256 = hash_file(partial)
    try:
        note_of(complete).unlink(missing_ok=True)  # of an older file: it must not stand beside the new one
        os.replace(partial, complete)
        write_note(complete, sha256)
    except (OSError, FirstTokenError):
        complete.unlink(missing_ok=True)


def write_note(packed: Path, sha256: str) -> None:
    write_text(note_of(packed), json.dumps({"facts": facts_of(packed), "sha256": sha256}))


def is_whole(packed: Path) -> bool:
    """Whether the file is as it was packed; one that is not is removed, with its note."""
    note = note_of(packed)
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
        if noted["facts"] == facts_of(packed):
            return True
        if noted["facts"][0] == packed.stat().st_size and hash_file(packed) == noted["sha256"]:
            write_note(packed, noted["sha256"])  # copied or touched
            return True
    except (OSError, ValueError, TypeError, KeyError, IndexError, FirstTokenError):  # no note, or none that says anything
        pass
    for path in (packed, note):
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return False
    return False


def has_room(partial: Path, needed: int) -> bool:
    """Whether ``needed`` bytes can be written there: the disk's room, quotas and limits on a file's size are all asked."""
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        os.posix_fallocate(descriptor, 0, needed)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            return False
        facts = os.fstatvfs(descriptor)
        return facts.f_bavail * facts.f_frsize > needed
    finally:
        os.close(descriptor)
        partial.unlink(missing_ok=True)
    return True


def writable_folder() -> Path | None:
    """Returns the folder of packed weights, or None where it cannot be made."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        (folder / "xnnpack").mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder / "xnnpack"


def prune(folder: Path) -> None:
    """Removes what processes that died while packing left, notes without a file, and the least recently used files past `KEPT`."""
    for path in folder.glob("*.partial"):
        if not Path(f"/proc/{path.name.split('.')[-2]}").exists():
            path.unlink(missing_ok=True)
    for note in folder.glob(f"*.cache{NOTE}"):
        if not note.with_suffix("").exists():
            note.unlink(missing_ok=True)
    files = sorted(folder.glob("*.cache"), key=used_at, reverse=True)
    for path in files[KEPT:]:
        path.unlink(missing_ok=True)
        note_of(path).unlink(missing_ok=True)


def used_at(packed: Path) -> float:
    """When a packed file was last asked for; 0 where it has no note."""
    try:
        return note_of(packed).stat().st_mtime
    except OSError:
        return 0
