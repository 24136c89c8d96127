"""The reference's several streams of the hidden state, in its own words: AltUp (arXiv 2301.13310), as Gemma 3n has it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from firsttoken.decoder.parts import Coefficients, Cutoff, Linear, Norm, Streams, Updates
from firsttoken.prove.arithmetic import Fp32
from firsttoken.weight_source import Source

if TYPE_CHECKING:
    from firsttoken.prove.reference import Weights


def root_mean_square(states: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(states).mean(-1, keepdims=True))


def of_size(states: np.ndarray, like: np.ndarray, floor: float) -> np.ndarray:
    """States with another's root mean square; their own mean square counts as ``floor`` at least."""
    return states * root_mean_square(like) / np.maximum(root_mean_square(states), np.sqrt(np.float32(floor)))


def project(weights: "Weights", part: Linear, states: np.ndarray, arithmetic: Fp32) -> np.ndarray:
    return arithmetic.linear(part.weight, states, weights.matrix(part.weight, arithmetic), None)


def open_streams(weights: "Weights", part: Streams | None, states: np.ndarray, arithmetic: Fp32) -> np.ndarray:
    """The embeddings ``[tokens, hidden]`` and what their projections give, ``[streams, tokens, hidden]``; as they are in a model of one stream."""
    if part is None:
        return states
    return np.stack([states, *(of_size(project(weights, p, states, arithmetic), states, part.floor) for p in part.projections)])


def close_streams(weights: "Weights", part: Streams | None, streams: np.ndarray, arithmetic: Fp32) -> np.ndarray:
    """The mean of the first stream and what the others' projections give, ``[tokens, hidden]``."""
    if part is None:
        return streams
    others = [
        of_size(project(weights, p, states, arithmetic), streams[0], part.floor)
        for p, states in zip(part.projections, streams[1:], strict=True)
    ]
    return np.stack([streams[0], *others]).mean(0)


class Alternating:
    """How one layer predicts and corrects all streams. ``normed`` is the state behind the router's norm, ``matrix`` reads a small weight."""

    def __init__(self, part: Updates, normed: Callable[[Norm, np.ndarray], np.ndarray], matrix: Callable[[Source], np.ndarray]) -> None:
        self.part, self.normed, self.matrix = part, normed, matrix

    def of(self, part: Coefficients, states: np.ndarray) -> np.ndarray:
        return states @ self.matrix(part.weight).T + np.asarray(part.offset, np.float32)

    def kind_of_token(self, states: np.ndarray) -> np.ndarray:
        return np.tanh(self.of(self.part.router, self.normed(self.part.norm, states)))

    def predict(self, streams: np.ndarray) -> np.ndarray:
        """Every stream as a sum over all, weighted for each token: ``[streams, tokens, hidden]`` to the same."""
        weights = self.of(self.part.prediction, self.kind_of_token(streams[0])).reshape(-1, len(streams), len(streams))
        return np.einsum("tik,kth->ith", weights, streams, optimize=True)

    def correct(self, predicted: np.ndarray, computed: np.ndarray) -> np.ndarray:
        """The predictions and a share of what the layer found otherwise than the first of them."""
        shares = self.of(self.part.correction, self.kind_of_token(computed))
        return predicted + shares.T[:, :, None] * (computed - predicted[0])


def cut_off(states: np.ndarray, part: Cutoff | None) -> np.ndarray:
    """What lies above the mean and so many standard deviations of a token's own values (arXiv 2506.06644); all of it without a part."""
    if part is None:
        return states
    cutoff = states.mean(-1, keepdims=True) + np.float32(part.deviations) * states.std(-1, keepdims=True)
    return np.maximum(states - cutoff, 0)
