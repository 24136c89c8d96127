"""Writing into a finished bundle's manifest which ARM cores it was proven on, and that it was on a GPU."""

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firsttoken.atomic_file import write_text
from firsttoken.bundle.gpu_facts import GpuProof
from firsttoken.bundle.manifest import MANIFEST_FILE, ArmProof, read_manifest
from firsttoken.checkpoint import read_json
from firsttoken.errors import FirstTokenError


def record(bundle: str | Path, artifact_sha256: str, core: str, runtime: str, proof: ArmProof | None) -> None:
    """Puts ``proof`` in the place of an older one on the same core and runtime; None only removes that.

    Nothing else in the manifest changes, and it appears complete or not at all. Raises `FirstTokenError` if the bundle
    holds another artifact by now, or cannot be written.
    """

    def put(values: dict[str, Any]) -> None:
        kept = [entry for entry in values.get("proven_on", []) if (entry["core"], entry["runtime"]) != (core, runtime)]
        if proof is not None or kept != values.get("proven_on", []):
            values["proven_on"] = [*kept, *([json.loads(proof.model_dump_json())] if proof else [])]

    _change(bundle, artifact_sha256, put)


def record_on_gpu(bundle: str | Path, artifact_sha256: str, proof: GpuProof | None) -> None:
    """Puts ``proof`` in the place of an older one on a GPU; None only removes that. As `record` otherwise."""

    def put(values: dict[str, Any]) -> None:
        if proof is not None or values.get("proven_on_gpu") is not None:
            values["proven_on_gpu"] = None if proof is None else json.loads(proof.model_dump_json())

    _change(bundle, artifact_sha256, put)


def _change(bundle: str | Path, artifact_sha256: str, put: Callable[[dict[str, Any]], None]) -> None:
    """Lets ``put`` change the manifest's values, and writes them where it did."""
    folder = Path(bundle)
    path = folder / MANIFEST_FILE
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise FirstTokenError(f"bundle {folder}: cannot be opened ({error.strerror})") from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX)  # proofs on several cores at once write one after the other
        manifest = read_manifest(folder)
        if manifest.facts(manifest.cpu).sha256 != artifact_sha256:
            raise FirstTokenError(f"bundle {folder}: was exported again during the proof, so the result was not recorded; prove it again")
        values = read_json(path, "a folder without it is not a bundle")
        before = json.dumps(values)
        put(values)
        if json.dumps(values) != before:
            write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    finally:
        os.close(held)
