"""Opening a bundle in its own runtime."""

import sys
from pathlib import Path

from firsttoken.backends.registry import find_backend
from firsttoken.backends.runner import Runner
from firsttoken.bundle.files import check_files
from firsttoken.bundle.manifest import read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.last_words import doing, now
from firsttoken.plain_file import check_plain, why
from firsttoken.quiet import quiet_runtime
from firsttoken.run.prefix import Prefix
from firsttoken.run.trial import try_first
from firsttoken.safe_text import harmless


def open_runner(bundle: str | Path, threads: int | None = None, check: bool = True, kept: bool = True, prefix: bool = True) -> Runner:
    """Loads a bundle's CPU artifact in its own runtime with ``threads`` threads (default: the machine's cores, 4 at most).

    Raises `FirstTokenError` if the folder is not a bundle or a file does not match the manifest's hash (which is left out
    where ``check`` is false, by a caller that has just done it). With ``kept`` false nothing is used that earlier loads left in a cache, with ``prefix`` false not the
    bundle's kept system prompt.
    """
    folder = Path(bundle)
    manifest = read_manifest(folder)
    if check:
        check_files(folder, manifest)
    artifact = folder / manifest.cpu.file
    try:
        check_plain(artifact.stat(), artifact)  # a runtime would wait for a named pipe
    except OSError as error:
        raise FirstTokenError(f"{artifact} cannot be read: {why(error)}") from None
    backend = find_backend(manifest.cpu.backend)
    backend.verify(folder, manifest.cpu)
    try_first(folder, manifest, backend)
    with doing(f"loading {artifact}"), quiet_runtime():
        runner = backend.open_runner(folder, manifest, manifest.cpu, threads, kept)
    if manifest.prefix is not None and prefix:
        runner.prefix = Prefix(folder, manifest.prefix)
    now(f"running {artifact}")
    for note in runner.notes:
        print(f"note: {harmless(note)}", file=sys.stderr)
    return runner
