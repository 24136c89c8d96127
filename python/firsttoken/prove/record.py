"""Writing into a finished bundle's manifest which ARM cores it was proven on, and that it was on a GPU."""

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firsttoken.atomic_file import write_text
from firsttoken.bundle.gpu_facts import GpuProof
from firsttoken.bundle.manifest import MANIFEST_FILE, ArmProof, Artifact, AuditRow, Manifest, read_manifest
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


def record_on_gpu(bundle: str | Path, manifest: Manifest, artifact: Artifact, proof: GpuProof | None, rows: list[AuditRow]) -> None:
    """Puts ``proof`` in the place of an older one on a GPU; None only removes that. Of an artifact for a GPU alone it is that one's proof, with what the audit
    found, else the manifest's ``proven_on_gpu``. As `record` otherwise."""
    written = None if proof is None else json.loads(proof.model_dump_json())

    def put(values: dict[str, Any]) -> None:
        if artifact.gpu is None:
            values.pop("proven_on_gpu", None)
            values |= {} if written is None else {"proven_on_gpu": written}
            return
        [own] = [one for one in values["artifacts"] if one["file"] == artifact.file]
        own["proof"], own["audit"] = written, [] if written is None else [json.loads(row.model_dump_json()) for row in rows]

    _change(bundle, manifest.facts(artifact).sha256, put, artifact.file)


def _change(bundle: str | Path, artifact_sha256: str, put: Callable[[dict[str, Any]], None], file: str | None = None) -> None:
    """Lets ``put`` change the manifest's values, and writes them where it did. ``file`` is the artifact's, by default the CPU's."""
    folder = Path(bundle)
    path = folder / MANIFEST_FILE
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise FirstTokenError(f"bundle {folder}: cannot be opened ({error.strerror})") from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX)  # proofs on several cores at once write one after the other
        manifest = read_manifest(folder)
        held_file = manifest.files.get(file or manifest.cpu.file)
        if held_file is None or held_file.sha256 != artifact_sha256:
            raise FirstTokenError(f"bundle {folder}: was exported again during the proof, so the result was not recorded; prove it again")
        values = read_json(path, "a folder without it is not a bundle")
        before = json.dumps(values)
        put(values)
        if json.dumps(values) != before:
            write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    finally:
        os.close(held)
