"""What the checkpoint itself computes, in FP32, read layer by layer from its files.

Every window goes through one layer before the next layer is read, so memory is one layer's weights plus the
activations, whatever the model's size. The formulas are its own, in numpy, apart from `firsttoken.decoder.forward` and
every backend's operations on purpose: a mistake there, which all exports are built from, would otherwise prove itself right.
"""

import numpy as np

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Attention, Block, Decoder, Linear, Mlp, Norm
from firsttoken.decoder.rope import Rope
from firsttoken.progress import Report, silent

HEAD_ROWS = 8192  # rows of the vocabulary head in memory at once


def reference_logits(
    checkpoint: Checkpoint,
    decoder: Decoder,
    windows: list[np.ndarray],
    positions: list[np.ndarray],
    vocab_size: int | None = None,
    report: Report = silent,
) -> list[np.ndarray]:
    """Returns float32 logits ``[len(positions[i]), vocab_size]`` for each window of token ids.

    ``positions[i]`` are the places in window ``i`` whose prediction of the next token is wanted; ``vocab_size`` cuts off
    padded rows (default: all). Raises `FirstTokenError` for missing or damaged weights.
    """
    hidden = [embed(checkpoint, decoder, window) for window in windows]
    for number, block in enumerate(decoder.layers):
        report("reference", number, len(decoder.layers), "layers")
        layer = Layer(checkpoint, block)
        hidden = [layer.run(states) for states in hidden]
    report("reference", len(decoder.layers), len(decoder.layers), "layers")
    wanted = [states[np.asarray(places, np.int64)] for states, places in zip(hidden, positions, strict=True)]
    del hidden
    logits = head(checkpoint, decoder, np.concatenate(wanted), vocab_size or decoder.vocab_size)
    return list(np.split(logits, np.cumsum([len(places) for places in positions])[:-1]))


def embed(checkpoint: Checkpoint, decoder: Decoder, window: np.ndarray) -> np.ndarray:
    """Embeddings of a window ``[tokens, hidden]``, read one row at a time."""
    return np.concatenate([checkpoint.rows(decoder.embedding.weight, int(t), int(t) + 1) for t in window])


def rms_norm(states: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    """``x / sqrt(mean(x^2) + epsilon) * weight`` over the last axis (Zhang and Sennrich 2019, arXiv 1910.07467)."""
    return states / np.sqrt(np.square(states).mean(-1, keepdims=True) + np.float32(epsilon)) * weight


def silu(x: np.ndarray) -> np.ndarray:
    """``x * sigmoid(x)`` (Elfwing et al. 2017, arXiv 1702.03118); the clip keeps the exponential finite, where the product is 0."""
    return x / (1 + np.exp(-np.maximum(x, np.float32(-80))))


ACTIVATIONS = {"silu": silu}


def rotate(states: np.ndarray, rope: Rope) -> np.ndarray:
    """Turns the pairs ``(x[i], x[i + d/2])`` of ``[heads, tokens, head_dim]`` by their position's angles (arXiv 2104.09864)."""
    angles = rope.angles(np.arange(states.shape[1]))
    cosine, sine = np.cos(angles) * np.float32(rope.factor), np.sin(angles) * np.float32(rope.factor)
    first, second = np.split(states, 2, axis=-1)
    return np.concatenate((first * cosine - second * sine, second * cosine + first * sine), axis=-1)


def softmax(scores: np.ndarray) -> np.ndarray:
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


class Layer:
    """One layer with its weights, which are read when they are asked for first."""

    def __init__(self, checkpoint: Checkpoint, block: Block) -> None:
        self.checkpoint, self.block = checkpoint, block
        self._read: dict[object, np.ndarray] = {}

    def run(self, states: np.ndarray) -> np.ndarray:
        """The layer over a whole window: ``[tokens, hidden]`` to the same."""
        states = states + self.attention(self.block.attention, self.norm(self.block.attention_norm, states))
        return states + self.mlp(self.block.mlp, self.norm(self.block.mlp_norm, states))

    def linear(self, part: Linear, states: np.ndarray) -> np.ndarray:
        if part not in self._read:
            self._read[part] = self.checkpoint.matrix(part.weight)
        product = states @ self._read[part].T
        if part.bias is None:
            return product
        if part.bias not in self._read:
            self._read[part.bias] = self.checkpoint.vector(part.bias)
        return product + self._read[part.bias]

    def norm(self, part: Norm, states: np.ndarray) -> np.ndarray:
        if part not in self._read:
            self._read[part] = self.checkpoint.vector(part.weight)
        return rms_norm(states, self._read[part], part.epsilon)

    def mlp(self, part: Mlp, states: np.ndarray) -> np.ndarray:
        return self.linear(part.down, ACTIVATIONS[part.activation](self.linear(part.gate, states)) * self.linear(part.up, states))

    def attention(self, part: Attention, states: np.ndarray) -> np.ndarray:
        """Causal grouped-query attention (arXiv 2305.13245) over the window, one group of heads at a time."""
        core, tokens = part.core, len(states)

        def heads(projection: Linear, norm: Norm | None) -> np.ndarray:
            split = self.linear(projection, states).reshape(tokens, -1, core.head_dim)
            return (split if norm is None else self.norm(norm, split)).transpose(1, 0, 2)

        query = rotate(heads(part.q, part.q_norm), part.rotation) * np.float32(core.scale)
        key, value = rotate(heads(part.k, part.k_norm), part.rotation), heads(part.v, None)
        distance = np.arange(tokens)[:, None] - np.arange(tokens)
        hidden = (distance < 0) if core.window is None else (distance < 0) | (distance >= core.window)
        mixed = np.empty_like(query)
        for number in range(core.kv_heads):
            group = slice(number * core.group, (number + 1) * core.group)
            scores = query[group] @ key[number].T
            scores[:, hidden] = -np.inf
            mixed[group] = softmax(scores) @ value[number]
        return self.linear(part.output, mixed.transpose(1, 0, 2).reshape(tokens, -1))


def head(checkpoint: Checkpoint, decoder: Decoder, states: np.ndarray, vocab_size: int) -> np.ndarray:
    """Final norm and vocabulary head, `HEAD_ROWS` rows at a time: ``[positions, hidden]`` to ``[positions, vocab_size]``."""
    states = rms_norm(states, checkpoint.vector(decoder.norm.weight), decoder.norm.epsilon)
    logits = np.empty((len(states), vocab_size), np.float32)
    for start in range(0, vocab_size, HEAD_ROWS):
        stop = min(start + HEAD_ROWS, vocab_size)
        logits[:, start:stop] = states @ checkpoint.rows(decoder.head.weight, start, stop).T
    if decoder.head.bias is not None:
        logits += checkpoint.vector(decoder.head.bias)[:vocab_size]
    return logits
