"""Bundles with packed weights for tests, and ways of changing what their manifests say."""

import json
import shutil
from pathlib import Path

from firsttoken.bundle.manifest import read_manifest
from firsttoken.file_hash import hash_file


def copied(bundle: Path, place: Path) -> Path:
    return Path(shutil.copytree(bundle, place))


def packed_file(bundle: Path, number: int = 0) -> Path:
    return bundle / read_manifest(bundle).packed.files[number].file


def say_of_packed(bundle: Path, **values) -> None:
    """Changes what the manifest says of the first packed file."""
    change(bundle, lambda manifest: manifest["packed"]["files"][0].update(values))


def change(bundle: Path, how) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    how(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def record(bundle: Path, file: Path) -> None:
    """Lets the manifest say of a changed file what it is now."""
    change(bundle, lambda manifest: manifest["files"].update({file.name: {"sha256": hash_file(file), "bytes": file.stat().st_size}}))
