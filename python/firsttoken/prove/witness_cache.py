"""Witnesses that agreed are remembered in the cache folder: by the checkpoint, what was asked, and every program that has a say in it."""

import hashlib
import json
import os
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import firsttoken
from firsttoken import plain_file
from firsttoken.bundle.witness_facts import Witness
from firsttoken.cache_folder import cache_folder
from firsttoken.checkpoint import Checkpoint

FOLDER = "witness"
KEPT = 256
# What transformers reads besides the weights and config.json, which the checkpoint's fingerprint covers.
READ_BESIDE = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "generation_config.json",
    "vocab.json", "merges.txt", "tokenizer.model",
)  # fmt: skip
PROGRAMS = ("transformers", "torch", "tokenizers", "numpy", "safetensors", "jinja2")


def key(checkpoint: Checkpoint, *asked: Any) -> str:
    """The name under which a witness of this checkpoint, asked this, is kept."""
    digest = hashlib.sha256(f"{checkpoint.fingerprint()} {own_code()} {' '.join(version(name) for name in PROGRAMS)}".encode())
    for name in READ_BESIDE:
        path = checkpoint.folder / name
        content = plain_file.read_bytes(path, plain_file.TOKENIZER_BYTES) if path.exists() else b""
        digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    index = sorted(path.name for path in checkpoint.folder.glob("*.safetensors*"))
    digest.update(json.dumps([index, asked], default=vars).encode())
    return digest.hexdigest()


@cache
def own_code() -> str:
    """A hash of this package's source: another version may read a checkpoint in another way."""
    folder = Path(firsttoken.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def remembered(name: str) -> Witness | None:
    """The witness that was kept under ``name``, or None."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        return Witness.model_validate_json(plain_file.read_bytes(folder / FOLDER / f"{name}.json"), strict=True)
    except (OSError, ValueError, ValidationError):
        return None


def remember(name: str, found: Witness) -> None:
    """Keeps a witness, and the newest `KEPT` of all; does nothing where there is no cache folder."""
    folder = cache_folder()
    if folder is None:
        return
    try:
        place = folder / FOLDER
        place.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=place, suffix=".new", delete=False, encoding="utf-8") as stream:
            stream.write(found.model_dump_json())
        os.replace(stream.name, place / f"{name}.json")
        for old in sorted(place.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError:  # a cache: the next export asks again
        return
