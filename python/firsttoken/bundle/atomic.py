"""Folders that appear complete or not at all.

A folder is built under a hidden sibling name on the same file system and renamed into place. Whatever ends the
process, the destination is the complete old folder, the complete new one, or absent; `clean` (run before the next
build) removes what dead processes left and puts back an old folder that a kill caught between two renames.

A living owner is known by a lock on the folder itself, which the kernel drops with the process; a process id
alone could by then belong to another program.
"""

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Self

from firsttoken.errors import FirstTokenError

# .NAME.firsttoken-PID-RANDOM.partial is a folder being built, .old one that is being replaced.
HIDDEN_NAME = re.compile(r"\.(?P<name>.+)\.firsttoken-(?P<pid>\d+)-[0-9a-f]{8}\.(?P<kind>partial|old)")
EXCHANGE, NO_REPLACE = 2, 1  # renameat2 flags, linux/fs.h
AT_FDCWD = -100
UNLOCKED_GRACE_SECONDS = 60  # between creating a folder and locking it


class Staging:
    """A hidden folder next to ``destination`` that `commit` renames into place; a context manager that cleans up.

    Raises `FirstTokenError` if the place cannot be written.
    """

    def __init__(self, destination: Path) -> None:
        self.destination = Path(os.path.abspath(destination))
        self._made_parents: list[Path] = []
        self._lock: int | None = None
        self._done = False
        try:
            self._make_parents()
            clean(self.destination.parent)
            self.folder = hidden_sibling(self.destination, "partial")
            self.folder.mkdir()
            self._lock = lock(self.folder)
        except OSError as error:
            self.discard()
            raise FirstTokenError(
                f"output {self.destination.parent}: cannot be written ({error.strerror}); choose another with -o"
            ) from None
        except BaseException:  # an interrupt while the folders are being made
            self.discard()
            raise

    def _make_parents(self) -> None:
        missing = []
        parent = self.destination.parent
        while not parent.exists():
            missing.append(parent)
            parent = parent.parent
        for parent in reversed(missing):
            self._made_parents.append(parent)
            parent.mkdir(exist_ok=True)

    def commit(self, replace: bool = False, destination: Path | None = None) -> None:
        """Makes everything durable and renames it to ``destination`` (default: the one given at the start).

        Raises `FirstTokenError` if the destination exists and ``replace`` is false.
        """
        target = self.destination if destination is None else Path(os.path.abspath(destination))
        sync_tree(self.folder)
        if os.path.lexists(target) and not replace:
            raise FirstTokenError(f"output {target}: exists; replace it with --force or choose another with -o")
        if os.path.lexists(target):
            replace_folder(self.folder, target)
        else:
            os.rename(self.folder, target)
        self._done = True
        sync_folder(target.parent)

    def discard(self) -> None:
        """Removes the hidden folder and the parent folders that were made for it, where they are empty."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._done:
            return
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder, ignore_errors=True)
        for parent in reversed(self._made_parents):
            try:
                parent.rmdir()
            except FileNotFoundError:
                continue  # was to be made, but never was
            except OSError:
                break

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


def hidden_sibling(destination: Path, kind: str) -> Path:
    """Returns an unused hidden name next to ``destination`` that says what it is and whose."""
    return destination.with_name(f".{destination.name}.firsttoken-{os.getpid()}-{secrets.token_hex(4)}.{kind}")


def replace_folder(new: Path, target: Path) -> None:
    """Puts ``new`` in the place of the existing ``target`` and removes the old folder."""
    if exchange(new, target):
        remove(new)  # now the old one; a kill in here leaves litter for the next `clean`
        return
    old = hidden_sibling(target, "old")
    held = lock(target)
    try:
        os.rename(target, old)
        try:
            os.rename(new, target)
        except OSError:
            os.rename(old, target)
            raise
        remove(old)
    finally:
        if held is not None:
            os.close(held)


def exchange(one: Path, other: Path) -> bool:
    """Swaps two paths in one step. Returns False where the system or the file system cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if call(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(code, os.strerror(code), str(other))


def clean(parent: Path) -> None:
    """Removes hidden folders that dead processes of ours left in ``parent``; restores a folder caught half replaced."""
    try:
        names = sorted(os.listdir(parent), reverse=True)
    except OSError:
        return
    # .old folders first: one whose destination is gone is the only complete copy
    found = [(parent / name, match) for name in names if (match := HIDDEN_NAME.fullmatch(name))]
    for path, match in sorted(found, key=lambda item: item[1]["kind"] != "old"):
        if not path.is_dir() or path.is_symlink() or owner_lives(path, int(match["pid"])):
            continue
        target = parent / match["name"]
        if match["kind"] == "old" and not os.path.lexists(target):
            os.rename(path, target)
        else:
            remove(path)


def owner_lives(path: Path, pid: int) -> bool:
    """Whether the process that made the hidden folder ``path`` is still at work on it."""
    held = lock(path)
    if held is None:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    else:
        if pid == os.getpid():
            return False
    finally:
        os.close(held)
    # unlocked, but some process has that id: it may be about to take the lock
    try:
        return time.time() - path.stat().st_ctime < UNLOCKED_GRACE_SECONDS
    except OSError:
        return False


def lock(folder: Path) -> int | None:
    """Locks a folder and returns its descriptor, or None if another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        pass  # a file system without locks: the process id has to do
    return descriptor


def remove(path: Path) -> None:
    """Removes a folder or a link, whatever is in it."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def sync_tree(folder: Path) -> None:
    """Flushes every file and folder under ``folder`` to the disk."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync_folder(Path(place) / name)
        sync_folder(Path(place))


def sync_folder(path: Path) -> None:
    """Flushes one file or folder to the disk, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
