"""Which parts of the held-out text are run, and how: the whole cache, prompts of many lengths, chunked ones, and decoding.

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

WALK, CHAT = "walk through the cache", "chat"
Kind = Literal["first", "extend", "decode"]
LEAST_TOKENS = 16  # of held-out text; less would prove nothing
GROWTH = 256  # rows by which a host grows the cache, where it is not said

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
# The walk through the whole cache: decode steps around every boundary of chunks and growth steps, and the last ones.
BEFORE_BOUNDARY, AFTER_BOUNDARY, LAST_DECODES = 2, 2, 24
WALK_SHARE = 0.7  # of the tokens that were asked for; more would leave nothing for other texts
MOST_BOUNDARIES = 48  # of a long cache, the first and last among them

# What a proof may cost besides the walk. The FP32 reference takes two operations per weight and token: 4e11 weight-tokens are about
# 8 s on two cores. The reference's logits of all compared positions are in memory at once.
MOST_POSITIONS = 640
MOST_TOKENS, FEWEST_TOKENS = 1536, 256
WEIGHT_TOKENS = 4e11
LOGIT_BYTES = 256 << 20


@dataclass(frozen=True)
class Window:
    """A stretch of tokens (one more than is run: the last is only a next token), its prompts and its decode steps.

    ``walk`` goes on after the prompts and before ``decodes``: that many tokens in one call, then that many decode steps, and so on.
    """

    tokens: np.ndarray
    prompts: tuple[tuple[int, ...], ...]
    decodes: int
    walk: tuple[tuple[int, int], ...] = ()
    name: str = ""

    def steps(self) -> Iterator[tuple[Kind, int, int, bool]]:
        """Yields ``(kind, start, stop, restart)``: run tokens ``start:stop``, after a reset where ``restart``."""
        stop = 0
        for prompt in self.prompts:
            start = 0
            for length in prompt:
                stop = start + length
                yield "extend" if start else "first", start, stop, start == 0
                start = stop
        for together, singly in (*self.walk, (0, self.decodes)):
            if together:
                yield "extend", stop, stop + together, False
                stop += together
            for _ in range(singly):
                yield "decode", stop, stop + 1, False
                stop += 1

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
    step: int = GROWTH,
) -> list[Window]:
    """Cuts the held-out tokens ``text`` into windows that do not overlap, spread over the whole of it.

    The first walks through the whole cache (`whole_cache`), whatever the model's size, over the text again and again where it is
    shorter. Where ``most`` tokens and compared positions (default: `proof_limits`) or a ``count`` of windows are asked for, it takes its share of
    them, and is left out where it would be most of the work. Each window begins with ``begin`` where the model wants that. ``count`` asks for that many windows instead, or as many as the text holds. ``step``
    is the number of rows by which a host grows the cache. Raises `FirstTokenError` for a text that is too short.
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
    chosen = bool(most) or count is not None
    first = []
    if not chosen:
        first = [whole_cache(text, begin, target, step)]
    elif target.cache_length <= WALK_SHARE * most_tokens:
        first = [whole_cache(text, begin, target, step, 2 * most_positions // 3)]
        tokens, positions = target.cache_length, len(first[0].positions)
    for prompts, decodes in candidate_shapes(target, most_tokens):
        prompts, decodes = fit(prompts, decodes, min(target.cache_length, most_tokens - tokens - 1))
        compared = sum(map(len, prompts)) + decodes
        if not prompts or ((shapes or (chosen and first)) and positions + compared > most_positions) or len(first) + len(shapes) == count:
            break
        shapes.append((prompts, decodes))
        tokens += sum(prompts[-1]) + decodes + 1
        positions += compared
    return first + place(text, begin, shapes)


def whole_cache(text: np.ndarray, begin: int | None, target: Target, step: int, most_positions: int | None = None) -> Window:
    """One window over every row of the cache: decode steps on both sides of the first row, of every boundary and of the last one.

    Boundaries are the multiples of a prefill chunk and of a growth step; between them tokens go in together, in calls that are longer than a chunk
    where a boundary was left out. ``most_positions`` leaves out boundaries and some of the last steps.
    """
    length, chunk = target.cache_length, target.prefill_chunk
    lead = [] if begin is None else [begin]
    tokens = np.concatenate([np.array(lead, np.int32), np.resize(text, length + 1 - len(lead)).astype(np.int32)])
    boundaries = sorted({*range(chunk, length, chunk), *range(step, length, step)})
    last, most_boundaries = min(LAST_DECODES, length - 1), MOST_BOUNDARIES
    if most_positions is not None:
        last = max(1, min(last, most_positions // 2))
        most_boundaries = min(most_boundaries, max(0, (most_positions - last - 2) // (1 + BEFORE_BOUNDARY + AFTER_BOUNDARY)))
    if len(boundaries) > most_boundaries:
        boundaries = [boundaries[n] for n in np.unique(np.linspace(0, len(boundaries) - 1, most_boundaries).round().astype(int))]
    walk, at = [], 1
    for boundary in boundaries:
        start, stop = boundary - BEFORE_BOUNDARY, boundary + AFTER_BOUNDARY
        if start > at and stop < length - last:
            walk.append((start - at, stop - start))
            at = stop
    walk.append((length - last - at, 0))
    return Window(tokens, ((1,),), last, tuple(walk), WALK)


def candidate_shapes(target: Target, most_tokens: int) -> Iterator[tuple[tuple[tuple[int, ...], ...], int]]:
    """Yields shapes in order of importance: a few hundred tokens, a prompt longer than a chunk, then the short ones over and over."""
    yield LONG_SHAPE
    chunk = target.prefill_chunk
    if chunk + 40 < target.cache_length and chunk + 80 <= 0.5 * most_tokens:
        yield ((chunk + 7,),), 16  # takes a second chunk by itself
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
