"""A gated delta net over a whole window, position by position, as its paper defines it; no product over pairs of positions is taken here."""

from collections.abc import Callable

import numpy as np

from firsttoken.decoder.parts import DeltaRule

CALL = 64  # tokens of a call, about


def unit(x: np.ndarray, epsilon: float) -> np.ndarray:
    """Vectors ``[..., dim]`` divided by their length, whose square is ``epsilon`` larger than it is."""
    return x / np.sqrt(np.square(x).sum(-1, keepdims=True) + np.float32(epsilon))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))``; below -80 it is as good as 0, and the exponential stays finite."""
    return 1 / (1 + np.exp(-np.maximum(x, np.float32(-80))))


def delta_rule(
    part: DeltaRule,
    decay: np.ndarray,
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    strength: np.ndarray,
    forgetting: np.ndarray,
    rounded: Callable[[np.ndarray, int], np.ndarray],
) -> np.ndarray:
    """What the rule gives at every position, float32 ``[tokens, value_heads, value_dim]`` (Yang et al. 2024, arXiv 2412.06464, equation 10).

    The state is a memory from keys to values. Each step lets all of it fade, looks up what it holds at the new key, and writes there as
    much of the difference to the new value as ``strength`` says. ``decay`` is ``[value_heads]``, queries, keys and values are
    ``[tokens, heads, dim]``, keys of length 1, ``strength`` and ``forgetting`` ``[tokens, value_heads]`` as their layers give them.
    ``rounded`` is what a sum of so many products is off by; kernels find what is kept from one position to another out of two sums of
    logarithms over a call, so it is those that are off.
    """
    logarithms = -np.exp(decay) * np.logaddexp(np.float32(0), forgetting)
    kept = np.empty_like(logarithms)
    for start in range(0, len(value), CALL):
        sums = rounded(np.cumsum(logarithms[start : start + CALL], axis=0).T, CALL).T  # off by each head's own size
        kept[start : start + CALL] = np.exp(np.minimum(np.diff(sums, axis=0, prepend=np.float32(0)), 0))
    written = sigmoid(strength)
    query, key = (np.repeat(x, part.value_heads // part.key_heads, axis=1) for x in (query, key))
    memory = np.zeros((part.value_heads, part.key_dim, part.value_dim), np.float32)
    found = np.empty_like(value)
    for at in range(len(value)):
        memory *= kept[at][:, None, None]
        held = rounded(np.matmul(key[at][:, None], memory)[:, 0], part.key_dim)
        memory += key[at][:, :, None] * (written[at][:, None] * (value[at] - held))[:, None]
        found[at] = np.matmul(query[at][:, None], memory)[:, 0]
    return rounded(found, part.key_dim)
