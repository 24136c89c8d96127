"""What a distilled checkpoint says about its origin: ``distillation.json``, written by ``firsttoken distill``."""

import hashlib
import json

from firsttoken.bundle.manifest import Lineage
from firsttoken.checkpoint import Checkpoint, read_json
from firsttoken.errors import FirstTokenError

RECORD = "distillation.json"
FLOAT_FOLDER = "float"  # the student before quantization-aware training, which its proofs compare with


def read_lineage(checkpoint: Checkpoint) -> Lineage | None:
    """Returns the lineage of a checkpoint, or None for one that has none, or whose record is about other weights.

    Raises `FirstTokenError` for a record that cannot be read.
    """
    path = checkpoint.folder / RECORD
    if not path.exists():
        return None
    record = read_json(path, "")
    if record.get("student") != checkpoint.fingerprint():
        return None  # copied here, or the weights were changed since
    try:
        return Lineage(
            recipe=record["recipe name"],
            recipe_sha256=hashlib.sha256(json.dumps(record["recipe"], sort_keys=True).encode()).hexdigest(),
            teachers={who: print_ for who, print_ in record["checkpoints"].items() if who.startswith("teacher")},
            training_data=record["training data"],
            held_out_data=record["held-out data"],
            tokens_seen=record["tokens seen"],
            reference=record.get("float student"),
        )
    except (KeyError, AttributeError, ValueError) as error:
        raise FirstTokenError(
            f"{path}: not a record of `firsttoken distill` ({type(error).__name__}: {str(error)[:120]}); distil again, or remove the file"
        ) from None


def proof_reference(checkpoint: Checkpoint) -> Checkpoint:
    """Returns the checkpoint whose FP32 numbers a proof compares with: the checkpoint itself, or its float student.

    Weights that were trained for quantization mean nothing in FP32; what a bundle may lose is measured against the
    student they come from. Raises `FirstTokenError` where that is absent or another one.
    """
    checkpoint = checkpoint.original
    lineage = read_lineage(checkpoint)
    if lineage is None or lineage.reference is None:
        return checkpoint
    folder = checkpoint.folder / FLOAT_FOLDER
    if not folder.is_dir():
        raise FirstTokenError(
            f"{checkpoint.folder}: was trained for quantization, and its float student is absent from {folder}; copy the whole folder, the proof compares with it"
        )
    reference = Checkpoint(folder)
    if reference.fingerprint() != lineage.reference:
        raise FirstTokenError(f"{folder}: is not the float student that {checkpoint.folder / RECORD} names; copy the whole folder again")
    return reference
