"""How far one model's predictions are from another's.

The figures and their names follow llama.cpp's ``perplexity --kl-divergence`` (tools/perplexity/perplexity.cpp), so that
they can be held against the published ones. With ``p`` the reference's probabilities and ``q`` the artifact's:

- KL divergence of a position: ``sum_v p_v (log p_v - log q_v)``, in nats (Kullback and Leibler 1951)
- same top: whether ``argmax p == argmax q``
- perplexity: ``exp(-mean log p_t)`` over the text's own next tokens ``t``
- magnitude ratio: ``rms(artifact's logits) / rms(reference's logits)``; softmax hides a common scale less than it seems
  to, and a lost scale factor shows here first
"""

from dataclasses import dataclass

import numpy as np

from firsttoken.bundle.figures import Figures

# What a position counts as whose logits hold NaN or infinity: far past every bound, and still a number in JSON.
BROKEN_KLD = 1e6
LARGEST = 1e30


@dataclass(frozen=True)
class Divergence:
    """Per compared position, in the order they were run. All arrays are ``[positions]``; log probabilities in nats."""

    kld: np.ndarray
    same_top: np.ndarray
    log_probability: np.ndarray  # of the text's next token, by the artifact
    reference_log_probability: np.ndarray
    square_sum: np.ndarray  # mean square of the artifact's logits
    reference_square_sum: np.ndarray


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log probabilities in float64, ``[..., vocab]`` like ``logits``; float32 would lose divergences under 1e-6."""
    values = logits.astype(np.float64)
    values -= values.max(axis=-1, keepdims=True)
    values -= np.log(np.exp(values).sum(axis=-1, keepdims=True))
    return values


def diverge_at(logits: np.ndarray, reference: np.ndarray, next_token: int) -> tuple[float, bool, float, float, float, float]:
    """Compares one position's logits ``[vocab]`` with the reference's; returns a row for `collect`.

    Logits that are not all finite count as `BROKEN_KLD` nats and never as the same top.
    """
    broken = not np.isfinite(logits).all()
    log_q = log_softmax(np.zeros_like(reference) if broken else logits)
    log_p = log_softmax(reference)
    # rounding can leave a sum of -1e-17; a divergence is never negative
    kld = BROKEN_KLD if broken else max(0.0, float((np.exp(log_p) * (log_p - log_q)).sum()))
    same = not broken and int(log_p.argmax()) == int(log_q.argmax())
    square = LARGEST if broken else float(np.mean(logits.astype(np.float64) ** 2))
    return kld, same, float(log_q[next_token]), float(log_p[next_token]), square, float(np.mean(reference.astype(np.float64) ** 2))


def collect(rows: list[tuple]) -> Divergence:
    """Puts rows of `diverge_at` into arrays."""
    return Divergence(*(np.array(column) for column in zip(*rows, strict=True)))


def diverge(logits: np.ndarray, reference: np.ndarray, next_tokens: np.ndarray) -> Divergence:
    """Compares logits ``[positions, vocab]`` with the reference's, for the text's ``next_tokens`` ``[positions]``."""
    return collect([diverge_at(*row) for row in zip(logits, reference, next_tokens, strict=True)])


def figures(divergence: Divergence, chosen: np.ndarray, first_diverging: str | None = None) -> Figures:
    """Sums up the positions that ``chosen`` (boolean ``[positions]``) picks. Percentiles interpolate linearly."""
    kld = divergence.kld[chosen]
    if not len(kld):
        return Figures(
            tokens=0,
            mean_kld=0,
            p99_kld=0,
            p999_kld=0,
            same_top=1,
            perplexity=1,
            reference_perplexity=1,
            perplexity_change=0,
            magnitude_ratio=1,
            first_diverging=None,
        )
    perplexity = perplexity_of(divergence.log_probability[chosen])
    reference = perplexity_of(divergence.reference_log_probability[chosen])
    ratio = np.sqrt(divergence.square_sum[chosen].mean() / max(divergence.reference_square_sum[chosen].mean(), 1 / LARGEST))
    return Figures(
        tokens=len(kld),
        mean_kld=float(kld.mean()),
        p99_kld=float(np.percentile(kld, 99)),
        p999_kld=float(np.percentile(kld, 99.9)),
        same_top=float(divergence.same_top[chosen].mean()),
        perplexity=perplexity,
        reference_perplexity=reference,
        perplexity_change=min(perplexity / reference - 1, LARGEST),
        magnitude_ratio=min(float(ratio), LARGEST),
        first_diverging=first_diverging,
    )


def perplexity_of(log_probability: np.ndarray) -> float:
    """``exp`` of the mean negative log probability (nats), kept finite."""
    return float(np.exp(min(-float(log_probability.mean()), np.log(LARGEST))))
