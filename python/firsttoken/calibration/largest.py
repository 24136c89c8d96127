"""The largest absolute inputs of layers on a calibration text, kept in the user's cache."""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from firsttoken.bundle.integer_facts import CalibrationFacts
from firsttoken.calibration.integers import kept_under
from firsttoken.calibration.text import TOKENS, WINDOW, CalibrationText, check_words, tokens_key, windows_of
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need
from firsttoken.progress import Report, silent
from firsttoken.tokenizer import Tokenizer

VERSION = 1  # of what is computed: another one measures anew
HELD_BACK = 4  # windows at the text's end that are not looked at: on them it is measured whether it helps


def largest_inputs(
    source: Checkpoint,
    decoder: Decoder,
    layers: Iterable[str],
    facts: CalibrationFacts,
    text: CalibrationText | None,
    report: Report = silent,
) -> dict[str, np.ndarray]:
    """Returns the largest absolute input float32 ``[columns]`` of every one of ``layers``, by name, measured where it is not kept.

    ``facts`` names the text; ``text`` may be another or None as long as they are kept. Raises `FirstTokenError`.
    """
    wanted = sorted(layers)
    decides = [VERSION, TOKENS, WINDOW, HELD_BACK, source.fingerprint(), tokens_key(source), wanted, facts.sha256]
    path = kept_under("largest") / f"{hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]}.npz"
    arrays = read_arrays(path)
    if arrays is not None and arrays.keys() >= set(wanted):
        return {name: arrays[name] for name in wanted}
    if text is None or text.sha256 != facts.sha256:
        raise FirstTokenError(
            f"what this bundle was smoothed by was measured on {facts.text} (SHA-256 {facts.sha256[:12]}…) and is no longer in the cache folder; "
            "give the same export again, with that text as --calibration"
        )
    need("executorch", "smooth = true")
    import torch

    from firsttoken.calibration.blocks import Largest, surprise, watch

    windows = [torch.from_numpy(window) for window in looked_at(windows_of(text, Tokenizer(source.folder)))]
    seen = Largest(frozenset(wanted))
    states = watch(source, decoder, windows, seen, report)
    check_words(source, decoder.vocab_size, text, surprise(source, decoder, windows[0], states[0]))
    write(path, seen.found)
    return seen.found


def looked_at(windows: list[np.ndarray]) -> list[np.ndarray]:
    """The windows that are looked at."""
    return windows[: -min(HELD_BACK, len(windows) // 2)]


def held_back(windows: list[np.ndarray]) -> list[np.ndarray]:
    """The others."""
    return windows[len(looked_at(windows)) :]


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """All arrays of an ``.npz``, whose checksums are looked at; None where there is no file or a damaged one, which is then made anew."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError):
        return None


def write(path: Path, found: dict[str, np.ndarray]) -> None:
    """Writes the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".unfinished{os.getpid()}")
    with unfinished.open("wb") as stream:
        np.savez(stream, **found)  # type: ignore[arg-type]  # numpy's stubs take every keyword for allow_pickle
    unfinished.replace(path)
