"""Where XNNPACK keeps a model's packed weights between starts.

The runtime does not notice a stale file, so its name carries the artifact's hash and the runtime's version: another
artifact or another runtime never finds it.
"""

from importlib.metadata import version
from pathlib import Path

from firsttoken.export.bundle import cache_folder


def weight_cache_path(artifact_sha256: str, package: str = "ai-edge-litert") -> Path | None:
    """Returns the cache file for an artifact, or None where no cache folder can be written (then nothing is cached)."""
    folder = cache_folder()
    if folder is None:
        return None
    folder = folder / "xnnpack"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder / f"{artifact_sha256}.{package}-{version(package)}.cache"
