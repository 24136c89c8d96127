"""Cache rows of one state at one address, however many of them a call is given.

A call takes rows ``[heads, 1, rows, head_dim]`` without gaps, so another number of rows is another place for all heads but the first.
They are moved within one range of addresses, of which only what was written takes memory: nothing is held twice, and what the
runtime remembers of an address stays true.

This module also runs inside the emulated ARM machine, where it imports nothing heavy.
"""

import ctypes
import mmap

import numpy as np
from numpy.typing import DTypeLike


class RowBuffer:
    """Room for ``shape[2]`` rows of ``shape`` ``[heads, 1, most rows, head_dim]``; all zeros, none shown. ``array`` is what `show` showed last."""

    def __init__(self, shape: list[int], dtype: DTypeLike) -> None:
        self.heads, _, self.most, self.width = shape
        self.dtype = np.dtype(dtype)
        # private: pages that a process has for itself, and counted as such
        room = mmap.mmap(-1, max(1, int(np.prod(shape)) * self.dtype.itemsize), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._all = np.frombuffer(room, self.dtype)
        self.array = self._view(0)

    def _view(self, rows: int) -> np.ndarray:
        return self._all[: self.heads * rows * self.width].reshape(self.heads, 1, rows, self.width)

    def show(self, rows: int, filled: int) -> np.ndarray:
        """Returns ``[heads, 1, rows, head_dim]`` in which each head's first ``filled`` rows are what they were, and the others zeros."""
        if not filled <= min(rows, self.array.shape[2]) or rows > self.most:
            raise AssertionError(f"{filled} filled rows of {self.array.shape[2]} shown as {rows} of {self.most}")
        before, self.array = self.array, self._view(rows)
        order = range(self.heads) if rows < before.shape[2] else reversed(range(self.heads))  # none lands on what has yet to move
        for head in order:
            source, place = before[head], self.array[head]
            if source.ctypes.data != place.ctypes.data and filled:
                ctypes.memmove(place.ctypes.data, source.ctypes.data, filled * self.width * self.dtype.itemsize)
            place[:, filled:] = 0
        return self.array
