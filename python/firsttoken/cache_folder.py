"""firsttoken's own folder in the user's cache."""

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Returns firsttoken's folder under ``$XDG_CACHE_HOME`` (or ``~/.cache``), or None where it cannot be written."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # the XDG specification: a relative path is to be ignored
        folder = (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "firsttoken"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None
