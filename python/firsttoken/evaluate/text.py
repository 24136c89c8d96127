"""Perplexity on a text, and the KL divergence from a reference model where both have one tokenizer."""

from dataclasses import dataclass

import numpy as np

from firsttoken.errors import FirstTokenError
from firsttoken.evaluate.subject import Subject
from firsttoken.progress import Report, silent
from firsttoken.prove.divergence import log_softmax, perplexity_of
from firsttoken.tokenizer import Tokenizer

LENGTH = 256  # tokens of a window; each is read from its own beginning
LEAST = 16
MOST_LOGIT_BYTES = 512 << 20  # of the reference, in memory at once


@dataclass(frozen=True)
class TextScore:
    """Over ``tokens`` predicted tokens. KL divergence in nats per token; None without a reference."""

    tokens: int
    perplexity: float
    mean_kld: float | None = None
    same_top: float | None = None


def windows_of(text: str, tokenizer: Tokenizer, tokens: int, longest: int) -> list[np.ndarray]:
    """Cuts windows of `LENGTH` tokens, spread over the whole text, about ``tokens`` tokens together; each begins as the model wants.

    ``longest`` is the shortest cache among the models that read them. Raises `FirstTokenError` for a text that is too short.
    """
    encoded = np.array(tokenizer.encode(text, begin=False), np.int32)
    if len(encoded) < LEAST:
        raise FirstTokenError(f"the text has {len(encoded)} tokens; at least {LEAST} are needed to measure a perplexity")
    lead = [] if tokenizer.begin is None else [tokenizer.begin]
    length = min(LENGTH, len(encoded), longest - len(lead))
    count = max(1, min(tokens // length, len(encoded) // length))
    starts = np.linspace(0, len(encoded) - length, count).round().astype(int)
    return [np.concatenate([np.array(lead, np.int32), encoded[start : start + length]]) for start in starts]


def score_text(subject: Subject, windows: list[np.ndarray], reference: Subject | None = None, report: Report = silent) -> TextScore:
    """Scores a model on windows; ``reference`` is another model with the same tokenizer, or None.

    Windows go through in groups, so that the reference's logits fit into memory.
    """
    size = max(1, MOST_LOGIT_BYTES // (4 * subject.vocabulary * max(map(len, windows))))
    of_text, divergences, same = [], [], []
    for start in range(0, len(windows), size):
        group = windows[start : start + size]
        theirs = reference.logits(group, report) if reference is not None else [None] * len(group)
        for window, ours, wanted in zip(group, subject.logits(group, report), theirs, strict=True):
            log_q = log_softmax(ours[:-1])
            of_text.append(np.take_along_axis(log_q, window[1:, None].astype(np.int64), 1)[:, 0])
            if wanted is not None:
                log_p = log_softmax(wanted[:-1])
                divergences.append(np.maximum(0, (np.exp(log_p) * (log_p - log_q)).sum(-1)))
                same.append(log_p.argmax(-1) == log_q.argmax(-1))
    log_probability = np.concatenate(of_text)
    if not np.isfinite(log_probability).all():
        raise FirstTokenError(f"{subject.folder}: gives logits that are not finite; prove it with `firsttoken prove` to see where")
    return TextScore(
        len(log_probability),
        perplexity_of(log_probability),
        float(np.concatenate(divergences).mean()) if divergences else None,
        float(np.concatenate(same).mean()) if same else None,
    )
