"""Where XNNPACK keeps a model's packed weights between starts.

The runtime notices neither a stale nor a half-written file. So the name carries the artifact's hash and the runtime's
version, and a new file is packed under another name and renamed when it is complete.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from firsttoken.cache_folder import cache_folder

KEPT = 8  # files; a packed file is about as large as its artifact, so the least recently used ones go


@contextmanager
def packed_weights(artifact_sha256: str, package: str = "ai-edge-litert") -> Iterator[Path | None]:
    """Gives the file to load packed weights from, or to pack them into, while the body loads the model.

    Gives None where no cache folder can be written. If the body raises, a file it had begun is removed.
    """
    folder = writable_folder()
    if folder is None:
        yield None
        return
    complete = packed_file(folder, artifact_sha256, package)
    if complete.exists():
        os.utime(complete)  # marks it as used
        yield complete
        return
    partial = folder / f"{complete.name}.{os.getpid()}.partial"
    try:
        yield partial
        if partial.exists():
            os.replace(partial, complete)  # the runtime has it open and mapped already
            prune(folder)
    finally:
        partial.unlink(missing_ok=True)


def packed_file(folder: Path, artifact_sha256: str, package: str = "ai-edge-litert") -> Path:
    """Returns where an artifact's packed weights lie in ``folder`` once they are packed."""
    return folder / f"{artifact_sha256}.{package}-{version(package)}.cache"


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
    """Removes the least recently used files past `KEPT`, and what processes that died while packing left."""
    for path in folder.glob("*.partial"):
        if not Path(f"/proc/{path.name.split('.')[-2]}").exists():
            path.unlink(missing_ok=True)
    files = sorted(folder.glob("*.cache"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[KEPT:]:
        path.unlink(missing_ok=True)
