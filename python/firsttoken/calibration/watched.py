"""Counts what the wanted layers meet and give as text runs through the model."""

import numpy as np
import torch
from torch import Tensor

from firsttoken.calibration.blocks import check_finite
from firsttoken.errors import FirstTokenError
from firsttoken.range_histogram import Seen


class Watched:
    """What each of the ``wanted`` layers met and gave, in ``found``; layers with one input share its counts."""

    def __init__(self, wanted: frozenset[str]) -> None:
        self.wanted = wanted
        self.found: dict[str, Seen] = {}
        self._first: dict[str, str] = {}  # of the layers with the same input
        self._last: tuple[str, Tensor] | None = None

    def met(self, name: str, x: Tensor) -> None:
        """A layer's input ``[tokens, columns]``."""
        check_finite(name, x)
        if name not in self.wanted:
            return
        if self._last is not None and self._last[1] is x:
            first = self.found[self._last[0]]
            self.found.setdefault(name, Seen(first.input, largest=first.largest)).largest = first.largest
            return
        self._last = name, x
        seen = self.found.setdefault(name, Seen())
        values = x.numpy()
        seen.input.add(values)
        largest = np.abs(values).max(0)
        seen.largest = np.maximum(seen.largest, largest) if len(seen.largest) else largest

    def gave(self, name: str, product: Tensor) -> None:
        """Its product ``[tokens, rows]``. Raises `FirstTokenError` for one that is no number, of any layer."""
        if not torch.isfinite(product).all():
            raise FirstTokenError(
                f"layer {name!r} gives NaN or infinite values on the calibration text, from inputs that are numbers: its weights are damaged, or FP32 is too small for them; "
                "check the checkpoint"
            )
        if name in self.wanted:
            self.found[name].output.add(product.numpy())
