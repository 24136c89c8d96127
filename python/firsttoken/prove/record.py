"""Writing into a finished bundle's manifest which ARM cores it was proven on."""

import fcntl
import json
import os
from pathlib import Path

from firsttoken.atomic_file import write_text
from firsttoken.bundle.manifest import MANIFEST_FILE, ArmProof, read_manifest
from firsttoken.checkpoint import read_json
from firsttoken.errors import FirstTokenError


def record(bundle: str | Path, artifact_sha256: str, core: str, runtime: str, proof: ArmProof | None) -> None:
    """Puts ``proof`` in the place of an older one on the same core and runtime; None only removes that.

    Nothing else in the manifest changes, and it appears complete or not at all. Raises `FirstTokenError` if the bundle
    holds another artifact by now, or cannot be written.
    """
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
        older = values.get("proven_on", [])
        kept = [entry for entry in older if (entry["core"], entry["runtime"]) != (core, runtime)]
        if proof is None and kept == older:
            return
        values["proven_on"] = [*kept, *([json.loads(proof.model_dump_json())] if proof else [])]
        write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    finally:
        os.close(held)
