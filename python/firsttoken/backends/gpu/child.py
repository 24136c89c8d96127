"""Running a .tflite on the software GPU once, in a process of its own: the accelerator may end the one that it is in."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firsttoken import last_words
from firsttoken.backends.gpu.device import device_environment
from firsttoken.death import describe
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible

TIMEOUT = 600  # seconds


@dataclass(frozen=True)
class OnGpu:
    """What a run gave: the outputs by name, and whether the accelerator took every operator."""

    outputs: dict[str, np.ndarray]
    fully: bool


def run_on_gpu(model: Path, inputs: dict[str, np.ndarray], device: Path | None = None, signature: str = "") -> OnGpu:
    """Runs a signature (default: the first) of a .tflite of fixed shapes once on the software GPU.

    ``inputs`` are by name, in the types of the file; ``device`` is the device's folder (default: the one that is set up). Raises
    `FirstTokenError`, with the accelerator's last words, where it refuses the file or dies of it.
    """
    with tempfile.TemporaryDirectory(prefix="firsttoken-gpu-") as scratch, tempfile.TemporaryFile() as said:
        given, got = Path(scratch) / "inputs.npz", Path(scratch) / "outputs.npz"
        np.savez(given, **inputs)  # type: ignore[arg-type]
        command = [sys.executable, "-m", "firsttoken.backends.gpu.once", str(model.resolve()), str(given), str(got), signature]
        try:
            done = subprocess.run(
                command, env=device_environment(device), stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=TIMEOUT
            )
        except subprocess.TimeoutExpired:
            raise FirstTokenError(f"{model} on the software GPU: no result after {TIMEOUT} s; the process was ended") from None
        if done.returncode or not got.is_file():
            raise FirstTokenError(ending(done.returncode, f"running {model} on the software GPU", words(said.fileno())))
        with np.load(got) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    return OnGpu({name.removeprefix("out."): array for name, array in found.items() if name != "fully"}, bool(found["fully"]))


def words(descriptor: int) -> str:
    """The end of what a process has written into a file."""
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, last_words.ROOM, max(0, size - last_words.ROOM)).decode("utf-8", "replace")


def ending(code: int, doing: str, said: str) -> str:
    """How a process ended that should have gone on, in one line with its last words."""
    if code < 0:
        return describe(-code, doing, said, "the process that ran it")
    lines = said.strip().splitlines()
    errors = (
        [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        or [line for line in lines if "rror" in line]
        or lines
    )
    last = f", saying {visible(' / '.join(errors[:2])[:300])!r}" if errors else ""
    return f"{doing}: LiteRT's GPU accelerator refused it{last}"
