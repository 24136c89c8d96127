"""A file that appears complete or not at all; folders are `firsttoken.bundle.atomic`'s."""

import os
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
    path = Path(path)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", suffix=".partial", delete=False
        ) as stream:
            temporary = Path(stream.name)
            stream.write(text)
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


def _umask() -> int:
    # the value can only be read by setting it
    current = os.umask(0o077)
    os.umask(current)
    return current
