"""Running text through the FP32 model one block at a time, and choosing the integers of each block's layers by what they met there.

In memory are one block's weights, the second moments of its layers' inputs, and the text's states. Every block meets what the blocks before it
give with their integers, so it makes up for them as far as it can. A run that was interrupted goes on with the first layer that is not written.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from firsttoken.backends.pytorch.ops import TorchOps
from firsttoken.backends.pytorch.weights import TorchWeights
from firsttoken.calibration.gptq import Integers, gptq
from firsttoken.calibration.rounded import IntegerFiles
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder import forward
from firsttoken.decoder.features import CHOSEN_EXPERTS, PER_LAYER, SHARED_CACHE, STREAMS, features
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import Named
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent

HEAD_ROWS = 8192  # rows of the head in memory at once
NOT_BY_BLOCKS = (PER_LAYER, SHARED_CACHE, STREAMS)  # what a block takes from elsewhere than the block before it
TOO_WIDE = (CHOSEN_EXPERTS,)  # the second moments of all experts' inputs together would not fit


class Moments:
    """The sum of ``x x^T [columns, columns]`` over everything that the ``wanted`` layers met; layers with one input share it."""

    def __init__(self, wanted: frozenset[str]) -> None:
        self.wanted = wanted
        self._sums: dict[str, Tensor] = {}
        self._first: dict[str, str] = {}  # of the layers with the same input
        self._last: tuple[str, Tensor] | None = None

    def __call__(self, name: str, x: Tensor) -> None:
        if name not in self.wanted:
            return
        check_finite(name, x)
        if self._last is not None and self._last[1] is x:
            self._first[name] = self._last[0]
            return
        self._first[name], self._last = name, (name, x)
        total = self._sums.setdefault(name, torch.zeros(x.shape[1], x.shape[1]))
        total.addmm_(x.t(), x)

    def of(self, name: str) -> Tensor:
        return self._sums[self._first[name]]


class Largest:
    """The largest absolute values float32 ``[columns]`` that each of the ``wanted`` layers met, in ``found``."""

    def __init__(self, wanted: frozenset[str]) -> None:
        self.wanted = wanted
        self.found: dict[str, np.ndarray] = {}

    def __call__(self, name: str, x: Tensor) -> None:
        if name in self.wanted:
            check_finite(name, x)
            largest = x.abs().amax(0).numpy()
            self.found[name] = np.maximum(self.found.get(name, largest), largest)


def check_finite(name: str, x: Tensor) -> None:
    """Raises `FirstTokenError` for an input that is no number."""
    if not torch.isfinite(x).all():
        raise FirstTokenError(
            f"layer {name!r} meets NaN or infinite values on the calibration text: the checkpoint does not compute in FP32 there; "
            "try another text, or check the weights"
        )


class WatchedOps(TorchOps):
    """The FP32 arithmetic, which shows ``seen`` what every linear layer is given, and ``gave`` its product without the bias."""

    def __init__(
        self,
        weights: TorchWeights,
        tokens: Tensor,
        seen: Callable[[str, Tensor], None],
        gave: Callable[[str, Tensor], None] | None = None,
    ) -> None:
        super().__init__(weights, tokens, 0)
        self._seen, self._gave = seen, gave

    def linear(self, linear: Named, x: Tensor) -> Tensor:
        self._seen(linear.name, x)
        if self._gave is None:
            return super().linear(linear, x)
        product = functional.linear(x, self.weights[linear.name])
        self._gave(linear.name, product)
        bias = self.weights.biases.get(linear.name)
        return product if bias is None else product + bias


def embedded(checkpoint: Checkpoint, decoder: Decoder, window: Tensor) -> Tensor:
    """The first layer's input for a window of token ids, float32 ``[tokens, hidden]``."""
    source = decoder.embedding.weight
    rows = torch.cat([torch.from_numpy(checkpoint.rows(source, int(t), int(t) + 1).copy()) for t in window])
    factor = checkpoint.embedding_factor
    return rows if factor is None else rows * torch.from_numpy(checkpoint.vector(factor).copy())


def through(ops: TorchOps, layer: Named, x: Tensor) -> Tensor:
    """What a layer gives for ``x [tokens, hidden]``."""
    return forward.finish(ops, layer, forward.block(ops, layer, x, False), None, 0)


def watch(
    checkpoint: Checkpoint,
    decoder: Decoder,
    windows: list[Tensor],
    seen: Callable[[str, Tensor], None],
    report: Report = silent,
    gave: Callable[[str, Tensor], None] | None = None,
) -> list[Tensor]:
    """Runs windows of token ids int64 ``[tokens]`` through the model in FP32, one layer in memory at a time; ``seen`` gets every linear layer's input,
    ``gave`` its product. Returns what the last layer gives, ``[tokens, hidden]``."""
    with torch.no_grad():
        states = [embedded(checkpoint, decoder, window) for window in windows]
        for number in range(len(decoder.layers)):
            report("calibrate", number, len(decoder.layers), "layers")
            weights = TorchWeights(checkpoint, decoder, max(len(window) for window in windows), f"layers.{number}.")
            layer = Named(decoder).layers[number]
            states = [through(WatchedOps(weights, window, seen, gave), layer, x) for window, x in zip(windows, states, strict=True)]
        report("calibrate", len(decoder.layers), len(decoder.layers), "layers")
    return states


def watch_head(
    checkpoint: Checkpoint,
    decoder: Decoder,
    states: list[Tensor],
    seen: Callable[[str, Tensor], None],
    gave: Callable[[str, Tensor], None],
) -> None:
    """Shows the head's inputs and, some rows at a time, its products, for what the last layer gives."""
    with torch.no_grad():
        states = [normed(checkpoint, decoder, x) for x in states]
        for x in states:
            seen("head", x)
        for _, rows in head_rows(checkpoint, decoder):
            for x in states:
                gave("head", functional.linear(x, rows))


def surprise(checkpoint: Checkpoint, decoder: Decoder, window: Tensor, states: Tensor) -> float:
    """The mean of minus the logarithm of what the model gave each next token of a window ``[tokens]``, in nats; ``states`` are what the last layer gives for it."""
    with torch.no_grad():
        x, wanted = normed(checkpoint, decoder, states[:-1]), window[1:]
        total, own = torch.full((len(wanted),), -torch.inf), torch.zeros(len(wanted))
        for start, rows in head_rows(checkpoint, decoder):
            logits = functional.linear(x, rows)
            if decoder.head.bias is not None:
                logits += torch.from_numpy(checkpoint.vector(decoder.head.bias).copy())[start : start + len(rows)]
            if decoder.softcap is not None:
                logits = torch.tanh(logits / decoder.softcap) * decoder.softcap
            total = torch.logaddexp(total, logits.logsumexp(1))
            here = (wanted >= start) & (wanted < start + len(rows))
            own[here] = logits[here, wanted[here] - start]
        return float((total - own).mean())


def normed(checkpoint: Checkpoint, decoder: Decoder, states: Tensor) -> Tensor:
    """The head's input for what the last layer gives."""
    weights = TorchWeights(checkpoint, decoder, 1, "norm")
    return TorchOps(weights, torch.zeros(0, dtype=torch.int64), 0).norm(Named(decoder).norm, states)


def head_rows(checkpoint: Checkpoint, decoder: Decoder) -> Iterator[tuple[int, Tensor]]:
    """The head's weight, some rows at a time, with the number of the first."""
    for start in range(0, decoder.head.rows, HEAD_ROWS):
        stop = min(start + HEAD_ROWS, decoder.head.rows)
        yield start, torch.from_numpy(checkpoint.rows(decoder.head.weight, start, stop).copy())


@dataclass
class Calibration:
    """One run: ``wanted`` gives bits and group (columns of a row that share a scale) of the layers to choose integers for.

    ``damped`` are the layers whose moments could be inverted only with more damping than usual, with that damping.
    """

    checkpoint: Checkpoint
    decoder: Decoder
    wanted: Mapping[str, tuple[int, int]]
    files: IntegerFiles
    damped: dict[str, float] = field(default_factory=dict)

    def run(self, windows: list[Tensor], report: Report = silent) -> None:
        """Writes the integers of every wanted layer that are not written yet; ``windows`` are token ids int64 ``[tokens]``.

        Raises `FirstTokenError` for a decoder that it does not take, and for inputs that are no numbers.
        """
        if left := [name for name in features(self.decoder) if name in (*NOT_BY_BLOCKS, *TOO_WIDE)]:
            raise FirstTokenError(
                f'method "gptq" does not take {left[0]}, which {self.decoder.family} has; leave the method out of the plan'
            )
        if all(self.files.has(name) for name in self.wanted):
            return
        with torch.no_grad():
            states = [embedded(self.checkpoint, self.decoder, window) for window in windows]
            for number in range(len(self.decoder.layers)):
                report("calibrate", number, len(self.decoder.layers), "layers")
                self._block(number, windows, states)
            report("calibrate", len(self.decoder.layers), len(self.decoder.layers), "layers")
            if "head" in self.wanted and not self.files.has("head"):
                self._head(states)

    def _block(self, number: int, windows: list[Tensor], states: list[Tensor]) -> None:
        """Replaces ``states``, the block's inputs, by what it gives with its integers."""
        at = f"layers.{number}."
        weights = TorchWeights(self.checkpoint, self.decoder, max(len(window) for window in windows), at)
        layer = Named(self.decoder).layers[number]
        own = frozenset(name for name in self.wanted if name.startswith(at))
        if not all(self.files.has(name) for name in own):
            moments = Moments(own)
            for window, x in zip(windows, states, strict=True):
                through(WatchedOps(weights, window, moments), layer, x)
            for name in own:
                if not self.files.has(name):
                    self._choose(name, weights[name], moments.of(name))
        for name in own:
            integers, scales = (torch.from_numpy(values.copy()) for values in self.files.read(name))
            weights.replace(name, Integers(integers, scales, 0.0).weight())
        states[:] = [through(TorchOps(weights, window, 0), layer, x) for window, x in zip(windows, states, strict=True)]

    def _head(self, states: list[Tensor]) -> None:
        """Of the whole head's rows each is chosen by itself, so they go in blocks."""
        moments = Moments(frozenset(["head"]))
        for x in states:
            moments("head", normed(self.checkpoint, self.decoder, x))
        found = [self._integers("head", rows, moments.of("head")) for _, rows in head_rows(self.checkpoint, self.decoder)]
        self.files.write("head", *(torch.cat([getattr(one, what) for one in found]).numpy() for what in ("values", "scales")))

    def _choose(self, name: str, weight: Tensor, moments: Tensor) -> None:
        found = self._integers(name, weight, moments)
        self.files.write(name, found.values.numpy(), found.scales.numpy())

    def _integers(self, name: str, weight: Tensor, moments: Tensor) -> Integers:
        bits, group = self.wanted[name]
        try:
            found = gptq(weight, moments, bits, group)
        except ArithmeticError as error:
            raise FirstTokenError(
                f"layer {name!r}: the second moments of its inputs {error}; try more or other calibration text, or leave the method out for this layer"
            ) from None
        if found.damping > 0.01:
            self.damped[name] = found.damping
        return found
