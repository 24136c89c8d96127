"""Which parts of the held-out text are run, and how: prompts of many lengths, chunked ones, and decoding up to the cache's end.

Everything here is fixed by the text, the target and the model's size, so that a proof can be repeated exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import parameter_count
from firsttoken.errors import FirstTokenError
from firsttoken.targets.target import Target

Kind = Literal["first", "extend", "decode"]
LEAST_TOKENS = 16  # of held-out text; less would prove nothing

# (prompts, decode steps). A prompt is the lengths of its pieces: (16, 1) is 16 tokens at position 0, then 1 more over
# the cache. All prompts of a window begin at its first token; decoding goes on after the last one.
SHAPES = (
    (((1,),), 40),
    (((2,), (7,), (16, 1)), 40),
    (((5, 3), (33,), (64,)), 40),
    (((100,), (128,), (64, 64, 5)), 40),
    (((3,), (31, 33)), 40),
)
LONG_SHAPE = (((256, 40), (300,)), 40)
LAST_DECODES = 128  # decode steps that end with a full cache

# What a proof may cost. The FP32 reference takes two operations per weight and token: 1e12 weight-tokens are about
# 20 s on two cores. The reference's logits of all compared positions are in memory at once.
MOST_POSITIONS = 1024
MOST_TOKENS, FEWEST_TOKENS = 4096, 256
WEIGHT_TOKENS = 1e12
LOGIT_BYTES = 256 << 20


@dataclass(frozen=True)
class Window:
    """A stretch of tokens (one more than is run: the last is only a next token), its prompts and its decode steps."""

    tokens: np.ndarray
    prompts: tuple[tuple[int, ...], ...]
    decodes: int

    def steps(self) -> Iterator[tuple[Kind, int, int, bool]]:
        """Yields ``(kind, start, stop, restart)``: run tokens ``start:stop``, after a reset where ``restart``."""
        stop = 0
        for prompt in self.prompts:
            start = 0
            for length in prompt:
                stop = start + length
                yield "extend" if start else "first", start, stop, start == 0
                start = stop
        for step in range(self.decodes):
            yield "decode", stop + step, stop + step + 1, False

    @property
    def positions(self) -> np.ndarray:
        """Index of the last token of every step: where its logits are compared."""
        return np.array([stop - 1 for _, _, stop, _ in self.steps()])


def proof_limits(decoder: Decoder) -> tuple[int, int]:
    """Returns the most tokens and the most compared positions for a model of this size."""
    tokens = int(min(MOST_TOKENS, max(FEWEST_TOKENS, WEIGHT_TOKENS / parameter_count(decoder))))
    return tokens, max(16, min(MOST_POSITIONS, LOGIT_BYTES // (4 * decoder.vocab_size)))


def choose_windows(
    text: np.ndarray,
    begin: int | None,
    decoder: Decoder,
    target: Target,
    most: tuple[int, int] | None = None,
    count: int | None = None,
) -> list[Window]:
    """Cuts the held-out tokens ``text`` into windows that do not overlap, spread over the whole of it.

    The first fills the cache to its last position, through a prompt longer than one prefill chunk where the target
    has room for it; for a model so large, or a text so short, that this would be most of the work it is left out. Each
    window begins with ``begin`` where the model wants that. ``most`` are the most tokens and compared positions
    (default: `budget`); ``count`` asks for that many windows instead, or as many as the text holds. Raises
    `FirstTokenError` for a text that is too short.
    """
    if len(text) < LEAST_TOKENS:
        raise FirstTokenError(
            f"the held-out text has {len(text)} tokens; at least {LEAST_TOKENS} are needed to prove anything, give a longer one with --held-out"
        )
    most_tokens, most_positions = most or proof_limits(decoder)
    if count is not None:
        most_tokens, most_positions = len(text), max(16, LOGIT_BYTES // (4 * decoder.vocab_size))
    most_tokens = min(most_tokens, len(text))
    shapes: list[tuple[tuple[tuple[int, ...], ...], int]] = []
    tokens = positions = 0
    for prompts, decodes in candidate_shapes(target, most_tokens, most_positions):
        prompts, decodes = fit(prompts, decodes, min(target.cache_length, most_tokens - tokens - 1))
        compared = sum(map(len, prompts)) + decodes
        if not prompts or (shapes and positions + compared > most_positions) or len(shapes) == count:
            break
        shapes.append((prompts, decodes))
        tokens += sum(prompts[-1]) + decodes + 1
        positions += compared
    return place(text, begin, shapes)


def candidate_shapes(target: Target, most_tokens: int, most_positions: int) -> Iterator[tuple[tuple[tuple[int, ...], ...], int]]:
    """Yields shapes in order of importance: to the cache's end, a few hundred tokens, then the short ones over and over."""
    length = target.cache_length
    if length <= 0.7 * most_tokens:
        # leaves the prompt longer than a chunk, so that it takes a second one by itself
        decodes = max(1, min(LAST_DECODES, most_positions // 2, (length - target.prefill_chunk) // 2))
        yield ((length - decodes,),), decodes
    yield LONG_SHAPE
    while True:
        yield from SHAPES


def fit(prompts: tuple[tuple[int, ...], ...], decodes: int, room: int) -> tuple[tuple[tuple[int, ...], ...], int]:
    """Leaves out prompts longer than ``room`` tokens and decode steps past it."""
    longest = max(prompts, key=sum)
    kept = [prompt for prompt in prompts if sum(prompt) <= room and prompt != longest]
    # the longest goes last: decoding after it needs no further prefill of those tokens
    if sum(longest) <= room:
        kept.append(longest)
    elif not kept and room > 1:
        kept = [(1,), (room // 2,)]
    return tuple(kept), max(0, min(decodes, room - sum(kept[-1]))) if kept else 0


def place(text: np.ndarray, begin: int | None, shapes: list) -> list[Window]:
    """Spreads windows of the given shapes evenly over the text."""
    lead = [] if begin is None else [begin]
    lengths = [max(sum(prompt) for prompt in prompts) + decodes + 1 - len(lead) for prompts, decodes in shapes]
    gap = max(0, len(text) - sum(lengths)) // max(1, len(shapes))
    windows, start = [], 0
    for (prompts, decodes), length in zip(shapes, lengths, strict=True):
        tokens = np.concatenate([np.array(lead, np.int32), text[start : start + length].astype(np.int32)])
        windows.append(Window(tokens, prompts, decodes))
        start += length + gap
    return windows
