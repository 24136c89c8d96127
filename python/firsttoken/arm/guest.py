"""The end inside the emulated machine for .tflite: runs our own runner there and serves it over standard input and output.

    python3.11 -m firsttoken.arm.guest BUNDLE RUNTIME [WEIGHT_CACHE [read-only]]

`firsttoken.backends.remote` says what is said, `firsttoken.arm.runner` is the other end.

Imports cost seconds here: the manifest, which the host has checked, is read as plain JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from firsttoken.backends.remote import serve

if TYPE_CHECKING:
    from firsttoken.backends.runner import Runner


def main(bundle: str, runtime: str, weight_cache: str = "", how: str = "") -> None:
    # getppid marks in the emulator's log where the work begins and ends (firsttoken.arm.instructions)
    serve(lambda: open_runner(Path(bundle), runtime, Path(weight_cache) if weight_cache else None, how == "read-only"), os.getppid)


def open_runner(bundle: Path, runtime: str, weight_cache: Path | None, read_only: bool) -> Runner:
    manifest = json.loads((bundle / "manifest.json").read_bytes(), object_hook=lambda values: SimpleNamespace(**values))
    artifact = bundle / manifest.artifacts[0].file
    if runtime == "tflite-2.16":
        from firsttoken.arm.tflite216 import Tflite216Runner

        return Tflite216Runner(artifact, manifest, 1, False)
    from firsttoken.backends.tflite.litert import ReadOnly
    from firsttoken.backends.tflite.runner import TfliteRunner

    return TfliteRunner(artifact, manifest, 1, ReadOnly(weight_cache) if weight_cache and read_only else weight_cache or False)


if __name__ == "__main__":
    main(*sys.argv[1:])
