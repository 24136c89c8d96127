"""examples/plain-interpreter/Generate.kt, compiled and run on the native library of a harness."""

import os
from pathlib import Path

from android.jars import jars
from android.kotlin import compiled
from android.natives.harness import Harness
from android.places import REPOSITORY

SOURCE = REPOSITORY / "examples" / "plain-interpreter"


def generate(harness: Harness, bundle: Path, prompt: str, most: int) -> str:
    """Returns what the example prints, which ends with a line break. Raises `BuildError`, `NativesError`."""
    libraries = jars("plain-interpreter", "tensorflow-lite")
    classes = compiled("plain-interpreter", SOURCE, libraries)
    os.environ.setdefault("DJL_CACHE_DIR", str(harness.folder / "djl"))  # where its tokenizers unpack their library
    return harness.java("GenerateKt", [str(bundle), prompt, str(most)], more=(classes, *libraries), only_output=True)
