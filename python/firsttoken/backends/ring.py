"""A KV cache that a host keeps of a layer with a window: a ring of its last rows, in which position p has row p modulo its length.

This module also runs inside the emulated ARM machine, where it imports nothing heavy.
"""

import numpy as np

from firsttoken.backends.runner import MASKED


def ring_mask(window: int, length: int, rows: int, asking: np.ndarray, filled: int) -> np.ndarray:
    """Mask float32 ``[asking, rows]`` of the tokens at positions ``asking`` over a ring of ``length`` rows, of which ``rows`` are passed.

    Row r holds the last position below ``filled`` that is r modulo ``length``, if there is one; a token sees ``window`` positions, its own included.
    """
    row = np.arange(rows)
    held = row + (filled - 1 - row) // length * length
    distance = asking[:, None] - held
    return np.where((held >= 0) & (distance >= 0) & (distance < window), np.float32(0), np.float32(MASKED))


def append_rows(cache: np.ndarray, rows: np.ndarray, position: int, count: int, length: int) -> None:
    """Writes the first ``count`` of ``rows [heads, 1, n, head_dim]``, of ``position`` and the following, into a cache of ``length`` rows."""
    end = position + count
    if end <= length:
        cache[:, :, position:end] = rows[:, :, :count]
    else:
        last = np.arange(max(position, end - length), end)
        cache[:, :, last % length] = rows[:, :, last - position]
