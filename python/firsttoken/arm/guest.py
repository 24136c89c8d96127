"""The end inside the emulated machine for .tflite: runs our own runner there and serves it over standard input and output.

    python3.11 -m firsttoken.arm.guest BUNDLE RUNTIME [WEIGHT_CACHE]

A request is three little-endian int32 (operation, position, count) and ``count`` int32 tokens; an answer is two int32
(status, count) and ``count`` float32 logits, or ``count`` bytes of text where the status is not 0. The first answer,
without a request, says that the artifact is loaded. `firsttoken.arm.runner` is the other end; runner.cpp speaks the same.

Imports cost seconds here: the manifest, which the host has checked, is read as plain JSON.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from firsttoken.errors import FirstTokenError

if TYPE_CHECKING:
    from firsttoken.backends.runner import Runner

RESET, PREFILL, DECODE = 0, 1, 2
DONE, FAILED = 0, 1


def main(bundle: str, runtime: str, weight_cache: str = "") -> None:
    # whatever else writes to standard output must not get between the answers
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        runner = open_runner(Path(bundle), runtime, Path(weight_cache) if weight_cache else None)
        answer(answers, DONE, b"", 0)
        while request := requests.read(12):
            operation, position, count = struct.unpack("<iii", request)
            serve(runner, operation, position, np.frombuffer(requests.read(4 * count), "<i4"), answers)
    except FirstTokenError as error:
        text = str(error).encode()
        answer(answers, FAILED, text, len(text))


def open_runner(bundle: Path, runtime: str, weight_cache: Path | None) -> Runner:
    manifest = json.loads((bundle / "manifest.json").read_bytes(), object_hook=lambda values: SimpleNamespace(**values))
    artifact = bundle / manifest.artifacts[0].file
    if runtime == "tflite-2.16":
        from firsttoken.arm.tflite216 import Tflite216Runner

        return Tflite216Runner(artifact, manifest, 1, False)
    from firsttoken.backends.tflite.runner import TfliteRunner

    return TfliteRunner(artifact, manifest, 1, weight_cache or False)


def serve(runner: Runner, operation: int, position: int, tokens: np.ndarray, answers: BinaryIO) -> None:
    if operation == RESET:
        runner.reset()
        answer(answers, DONE, b"", 0)
        return
    if runner.position != position:
        raise FirstTokenError(
            f"the emulated runner is at position {runner.position}, the host at {position}; this is a fault of firsttoken"
        )
    # getppid marks in the emulator's log where the work begins and ends (firsttoken.arm.instructions)
    os.getppid()
    logits = runner.prefill(tokens) if operation == PREFILL else runner.decode(int(tokens[0]))
    os.getppid()
    values = np.ascontiguousarray(logits, "<f4")
    answer(answers, DONE, values.tobytes(), len(values))


def answer(answers: BinaryIO, status: int, body: bytes, count: int) -> None:
    answers.write(struct.pack("<ii", status, count) + body)
    answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
