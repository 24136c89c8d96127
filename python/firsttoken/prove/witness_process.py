"""Asking the process in which transformers reads a checkpoint (`witness_worker`), and how much memory that may take."""

import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import tensors
from firsttoken.errors import FirstTokenError
from firsttoken.machine import MARGIN, available_memory
from firsttoken.prove.witness_worker import ANSWER, LOGITS, REQUEST

MODULE = "firsttoken.prove.witness_worker"
IMPORT_BYTES = 1 << 30  # PyTorch and transformers, loaded and warm: 0.93 GiB measured
FP32 = 4
LARGEST_COPIES = 2  # of the largest tensor, while it is read and widened
LOGIT_COPIES = 3  # the model's, one window's and all together
SLACK = 1.5  # of the limit over the estimate: address space that is asked for and never touched
PATIENCE_SECONDS = 1800.0
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Room:
    """The first ``layers`` of a model that fit, and the bytes that reading and running them takes."""

    layers: int
    memory: int


def room(decoder: Decoder, positions: int, memory: int | None = None) -> Room:
    """How many layers can be read in ``memory`` bytes (default: what the machine has left)."""
    most = int((available_memory() if memory is None else memory) * (1 - MARGIN))
    found = Room(0, 0)
    for layers in range(len(decoder.layers) + 1):
        sizes = [FP32 * math.prod(shape) for _, shape in dict(tensors(first_layers(decoder, layers))).items()]
        needed = IMPORT_BYTES + sum(sizes) + LARGEST_COPIES * max(sizes) + LOGIT_COPIES * FP32 * positions * decoder.vocab_size
        if needed > most:
            break
        found = Room(layers, needed)
    return found


def first_layers(decoder: Decoder, layers: int) -> Decoder:
    """The same model without the layers past the first ``layers``."""
    return replace(decoder, layers=decoder.layers[:layers])


def ask(
    folder: Path, layers: int, memory: int, windows: list[list[int]], texts: list[str], chats: list[list[dict]]
) -> tuple[dict[str, Any], Any]:
    """Returns what transformers says of the checkpoint in ``folder``, and its logits ``[positions, vocabulary]`` or None.

    Raises `FirstTokenError` where the process ends without an answer.
    """
    limit = int(SLACK * memory) + (1 << 30)
    request = {
        "folder": str(folder.resolve()), "layers": layers, "memory": limit, "windows": windows, "texts": texts, "chats": chats, "parent": os.getpid()
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="firsttoken-witness-") as held:
        place = Path(held)
        (place / REQUEST).write_text(json.dumps(request), encoding="utf-8")
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        command = [sys.executable, "-m", MODULE, held]
        with tempfile.TemporaryFile() as words:
            try:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=words,
                    timeout=PATIENCE_SECONDS,
                    env={**os.environ, **OFFLINE, "PYTHONPATH": paths},
                )
            except subprocess.TimeoutExpired:
                raise FirstTokenError(f"transformers took longer than {PATIENCE_SECONDS:g} seconds") from None
            if done.returncode or not (place / ANSWER).exists():
                words.seek(0)
                lines = words.read().decode("utf-8", "replace").strip().splitlines()
                raise FirstTokenError(
                    f"the process with transformers ended with {done.returncode} ({lines[-1] if lines else 'without a word'})"
                )
        answer = json.loads((place / ANSWER).read_text(encoding="utf-8"))
        return answer, np.load(place / LOGITS) if (place / LOGITS).exists() else None
