"""Held-out figures for the demo checkpoint: the model against n-gram baselines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def unigram_bits(train: np.ndarray, documents: Sequence[Sequence[int]], vocab: int) -> float:
    """Total bits of the documents under add-one smoothed token frequencies."""
    counts = np.bincount(train, minlength=vocab) + 1.0
    log_probability = np.log2(counts / counts.sum())
    return -float(sum(log_probability[np.asarray(document[1:])].sum() for document in documents))


def bigram_bits(
    train: np.ndarray,
    documents: Sequence[Sequence[int]],
    vocab: int,
    discounts: Sequence[float] = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95),
) -> tuple[float, float]:
    """Total bits under an interpolated Kneser-Ney bigram, and the discount used.

    The discount is picked on the very documents that are scored, which can only
    favour the bigram: the comparison stays on the safe side for the model.
    """
    pairs, counts = np.unique(train[:-1].astype(np.int64) * vocab + train[1:], return_counts=True)
    previous, following = pairs // vocab, pairs % vocab
    context_total = np.bincount(previous, weights=counts, minlength=vocab)
    context_types = np.bincount(previous, minlength=vocab)
    continuation = np.bincount(following, minlength=vocab).astype(np.float64)
    # The lowest order is mixed with the uniform distribution so that nothing has probability zero.
    continuation = (continuation + 0.5) / (continuation.sum() + 0.5 * vocab)

    before = np.concatenate([np.asarray(d[:-1], dtype=np.int64) for d in documents])
    after = np.concatenate([np.asarray(d[1:], dtype=np.int64) for d in documents])
    wanted = before * vocab + after
    place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    seen = np.where(pairs[place] == wanted, counts[place], 0)
    total = np.maximum(context_total[before], 1)

    best = (math.inf, 0.0)
    for discount in discounts:
        left_over = np.where(context_total[before] > 0, discount * context_types[before] / total, 1.0)
        probability = np.maximum(seen - discount, 0) / total + left_over * continuation[after]
        best = min(best, (-float(np.log2(probability).sum()), discount))
    return best


def model_bits(model, documents: Sequence[Sequence[int]], window: int = 1024, stride: int = 512):
    """Bits and token counts under the model, as (total bits, bits by position, tokens by position).

    Windows overlap by half: a token past the first window is scored with at least
    ``window - stride`` tokens before it. Positions are grouped in quarters of the window.
    """
    import torch

    quarter = window // 4
    bits, tokens = np.zeros(4), np.zeros(4, dtype=np.int64)
    with torch.inference_mode():
        for document in documents:
            scored = 1
            for start in range(0, len(document), stride):
                piece = torch.tensor([document[start : start + window]])
                if start + piece.shape[1] <= scored:
                    break
                logits = model(input_ids=piece, use_cache=False).logits[0, :-1].float()
                losses = torch.nn.functional.cross_entropy(logits, piece[0, 1:], reduction="none")
                fresh = losses[scored - start - 1 :].double().numpy() / math.log(2)
                # The position of the token that predicts, not of the token predicted.
                groups = (np.arange(len(fresh)) + scored - start - 1) // quarter
                np.add.at(bits, groups, fresh)
                np.add.at(tokens, groups, 1)
                scored = start + piece.shape[1]
    return float(bits.sum()), bits, tokens
