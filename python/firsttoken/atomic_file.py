"""A file that appears complete or not at all; folders are `firsttoken.bundle.atomic`'s."""

import os
import re
import tempfile
from pathlib import Path

from firsttoken.errors import FirstTokenError


def check_file_destination(path: str | Path, option: str) -> None:
    """Raises `FirstTokenError` naming ``option`` if a file cannot be written at ``path``; changes nothing."""
    path = Path(path)
    if path.is_dir():
        raise FirstTokenError(f"{option} {path}: is a folder; expected the name of a file")
    if not path.parent.is_dir():
        raise FirstTokenError(f"{option} {path}: folder {path.parent} does not exist; make it or choose another")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise FirstTokenError(f"{option} {path}: not writable; choose another")


def write_text(path: str | Path, text: str) -> None:
    """Writes ``text`` as UTF-8; an older file stays until the new one is on the disk. Raises `FirstTokenError` where it cannot."""
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """The same with bytes."""
    path = Path(path)
    temporary = None
    try:
        remove_left(path)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.{os.getpid()}-", suffix=".partial", delete=False) as stream:
            temporary = Path(stream.name)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        mode = path.stat().st_mode if path.exists() else 0o666 & ~_umask()
        os.chmod(temporary, mode & 0o777)
        os.replace(temporary, path)
    except OSError as error:
        raise FirstTokenError(f"{path}: cannot be written ({error.strerror or error}); the file there, if any, is unchanged") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def remove_left(path: Path) -> None:
    """Removes what processes that were killed while they wrote ``path`` left beside it."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.(?P<pid>\d+)-\w+\.partial")
    for name in os.listdir(path.parent):
        if (match := ours.fullmatch(name)) and not process_lives(int(match["pid"])):
            path.with_name(name).unlink(missing_ok=True)


def process_lives(pid: int) -> bool:
    """Whether a process of this machine has that id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # someone else's
        pass
    return True


def _umask() -> int:
    # the value can only be read by setting it
    current = os.umask(0o077)
    os.umask(current)
    return current
