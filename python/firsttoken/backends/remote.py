"""What two processes say to each other when one of them runs an artifact for the other, over standard input and output.

A request is three little-endian int32 (operation, position, count) and ``count`` int32 tokens; an answer is two int32
(status, count) and ``count`` float32 logits, or ``count`` bytes of text where the status is not 0. The first answer,
without a request, says that the artifact is loaded. `backends.remote_runner` is the end that asks; arm/runner.cpp speaks the same.

This runs inside the emulated ARM machine too, where imports cost seconds.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from firsttoken.errors import FirstTokenError

if TYPE_CHECKING:
    from firsttoken.backends.runner import Runner

RESET, PREFILL, DECODE = 0, 1, 2
DONE, FAILED = 0, 1


def serve(opened: Callable[[], Runner], mark: Callable[[], object] = lambda: None) -> None:
    """Opens a runner and answers for it until the input ends, or with the text of a `FirstTokenError`; ``mark`` is called around the work."""
    # whatever else writes to standard output must not get between the answers
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        runner = opened()
        _answer(answers, DONE, b"", 0)
        while request := requests.read(12):
            operation, position, count = struct.unpack("<iii", request)
            values = _served(runner, operation, position, np.frombuffer(requests.read(4 * count), "<i4"), mark)
            _answer(answers, DONE, values.tobytes(), len(values))
    except FirstTokenError as error:
        text = str(error).encode()
        _answer(answers, FAILED, text, len(text))


def _served(runner: Runner, operation: int, position: int, tokens: np.ndarray, mark: Callable[[], object]) -> np.ndarray:
    """The logits of a request; none for a reset."""
    if operation == RESET:
        runner.reset()
        return np.zeros(0, "<f4")
    if runner.position != position:
        raise FirstTokenError(f"the runner there is at position {runner.position}, here at {position}; this is a fault of firsttoken")
    mark()
    logits = runner.prefill(tokens) if operation == PREFILL else runner.decode(int(tokens[0]))
    mark()
    return np.ascontiguousarray(logits, "<f4")


def _answer(answers: BinaryIO, status: int, body: bytes, count: int) -> None:
    answers.write(struct.pack("<ii", status, count) + body)
    answers.flush()
