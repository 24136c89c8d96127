"""Loading a .pte natively, over packed weights that an earlier start has left.

The runtime checks of such a file that it is complete and that its kernels are this version's, not whose weights it holds: `weight_cache` does, by
the artifact's hash, the runtime's version and the CPU's kind in its name, and by a note of what was written.
"""

import fcntl
import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from firsttoken.backends.executorch.native import LONGEST_PATH, NativeLibrary, NativeModel
from firsttoken.backends.executorch.packing import named_apart
from firsttoken.backends.tflite.weight_cache import packed_weights
from firsttoken.bundle.manifest import FileFacts

PACKAGE = "executorch"
LOCK = "executorch.lock"
CPU_LINES = ("model name", "flags", "Features", "CPU implementer", "CPU part")  # of /proc/cpuinfo, on x86 and ARM


def load_native(library: NativeLibrary, artifact: Path, facts: FileFacts | None) -> tuple[NativeModel, str]:
    """Returns the loaded model, and what a user should hear of it, if anything; ``facts`` of the artifact None packs in memory. Raises `RuntimeError`."""
    if facts is None:
        return NativeModel(library, artifact, None), ""
    with packed_weights(facts.sha256, facts.bytes, PACKAGE, cpu_kind()) as packed:
        if packed.file is None:
            return NativeModel(library, artifact, None), packed.note
        if not packed.file.exists() and not named_apart(artifact):  # a complete one has been looked at
            return (
                NativeModel(library, artifact, None),
                "packed weights are kept in memory: two layers have the same integers and other scales, which ExecuTorch's cache cannot tell apart",
            )
        if len(os.fsencode(packed.file)) > LONGEST_PATH:
            note = f"packed weights are kept in memory: {packed.file.parent} has too long a name for ExecuTorch; set XDG_CACHE_HOME to a shorter one"
            return NativeModel(library, artifact, None), note
        with alone(packed.file.parent):
            model = NativeModel(library, artifact, packed.file)
            release(packed.file)
        return model, ""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lets one process at a time load: the runtime empties a file that another one has locked in between its two looks at it."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def release(packed: Path) -> None:
    """Gives up the runtime's lock on the file, which it would hold as long as the model is loaded: no other process could map it until then.

    It is complete now, and is never written again.
    """
    facts = packed.stat()
    for entry in os.listdir("/proc/self/fd"):
        try:
            found = os.fstat(int(entry))
        except OSError:  # closed meanwhile, as the listing's own is
            continue
        if (found.st_dev, found.st_ino) == (facts.st_dev, facts.st_ino):
            fcntl.flock(int(entry), fcntl.LOCK_UN)


def cpu_kind() -> str:
    """A short name for CPUs for which XNNPACK packs weights alike."""
    try:
        content = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        content = ""
    lines = [line for line in content.splitlines() if line.partition(":")[0].strip() in CPU_LINES]
    return hashlib.sha256("\n".join([platform.machine(), *lines]).encode()).hexdigest()[:12]
