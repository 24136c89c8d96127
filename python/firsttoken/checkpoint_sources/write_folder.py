"""Any checkpoint written as a Hugging Face folder, tensor by tensor in blocks of rows; the folder appears complete or not at all."""

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from firsttoken import plain_file
from firsttoken.bundle.atomic import Staging
from firsttoken.checkpoint import ITEM_BYTES, Checkpoint, StoredTensor, read_json
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.tokenizer import BUNDLED_FILES
from firsttoken.units import readable

BLOCK_VALUES = 1 << 22
ORIGIN_FILE = "origin.json"
WORDS = (*BUNDLED_FILES, "generation_config.json", "added_tokens.json")


def write_checkpoint(
    source: Checkpoint, output: str | Path, report: Report = silent, replace: bool = False, origin: dict | None = None
) -> Path:
    """Writes ``config.json``, the tokenizer's files and ``model.safetensors``; returns the folder.

    Weights are FP32, so that nothing is lost; ``origin.json`` says what they were made of, with what ``origin`` adds. Raises `FirstTokenError`.
    """
    output = Path(output)
    dtypes = dict.fromkeys(source.tensors, "F32")
    needed = sum(4 * int(np.prod(tensor.shape)) for tensor in source.tensors.values())
    try:
        with Staging(output) as staging:
            free = os.statvfs(staging.folder)
            if needed > free.f_bavail * free.f_frsize:
                raise FirstTokenError(
                    f"output {output}: needs {readable(needed)}, there is {readable(free.f_bavail * free.f_frsize)}; free some space or choose another place with -o"
                )
            _write_words(source, staging.folder)
            _write_weights(source, dtypes, staging.folder / "model.safetensors", report)
            _write_origin(source, staging.folder, origin or {})
            staging.commit(replace=replace)
    except OSError as error:
        raise FirstTokenError(f"output {output}: {error.strerror or error}; free some space or choose another place with -o") from None
    return output


def _write_words(source: Checkpoint, folder: Path) -> None:
    config = {key: value for key, value in source.config.items() if key not in ("torch_dtype", "dtype")} | {"dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
    for name in WORDS:
        if (source.folder / name).exists():
            plain_file.copy(source.folder / name, folder / name)


def _write_origin(source: Checkpoint, folder: Path, more: dict) -> None:
    with Checkpoint(folder) as written:
        made_of = {"checkpoint": source.name, "fingerprint": source.fingerprint()}
        document = {"written": written.fingerprint(), "made of": made_of, "note": note_of(source), **more}
    (folder / ORIGIN_FILE).write_text(json.dumps(document, indent=2), "utf-8")


def note_of(checkpoint: Checkpoint) -> str | None:
    """What has to be known of figures against these weights: the checkpoint's own note, or that of the one it was written from."""
    path = checkpoint.folder / ORIGIN_FILE
    if checkpoint.note is not None or not path.exists():
        return checkpoint.note
    document = read_json(path, "")
    note = document.get("note") if document.get("written") == checkpoint.fingerprint() else None  # of other weights it says nothing
    return note if isinstance(note, str) else None


def _write_weights(source: Checkpoint, dtypes: dict[str, str], path: Path, report: Report) -> None:
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in source.tensors.items():
        begin, end = end, end + int(np.prod(tensor.shape)) * ITEM_BYTES[dtypes[name]]
        header[name] = {"dtype": dtypes[name], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    done = 0
    with open(path, "wb") as stream:
        stream.write(struct.pack("<Q", len(raw)) + raw)
        for name, tensor in source.tensors.items():
            for values in _blocks(source, name, tensor):
                stream.write(values.tobytes())
                done += values.nbytes
                report("write weights", done, end, "B")


def _blocks(source: Checkpoint, name: str, tensor: StoredTensor) -> Iterator[np.ndarray]:
    step = max(1, BLOCK_VALUES // max(1, tensor.row_length))
    for start in range(0, tensor.row_count, step):
        yield source.rows(name, start, min(start + step, tensor.row_count))
