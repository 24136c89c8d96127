"""pass@k: the chance that one of k answers is right, out of n that were drawn (Chen et al., arXiv:2107.03374)."""

from collections.abc import Sequence

from firsttoken.errors import FirstTokenError


def pass_at_k(samples: int, right: int, k: int) -> float:
    """The unbiased estimate ``1 - C(n - c, k) / C(n, k)`` for ``right`` = c of ``samples`` = n answers, as a product, in which nothing overflows."""
    if not 1 <= k <= samples or not 0 <= right <= samples:
        raise ValueError(f"{right} right of {samples}, k {k}; expected 1 to {samples} for k and 0 to {samples} right ones")
    all_wrong = 1.0
    for drawn in range(k):
        all_wrong *= max(0, samples - right - drawn) / (samples - drawn)
    return 1.0 - all_wrong


def check_ks(ks: Sequence[int], samples: int, temperature: float) -> None:
    """Raises `FirstTokenError` for a k that so many samples, at this temperature, say nothing of."""
    for k in ks:
        if not 1 <= k <= samples:
            raise FirstTokenError(f"--pass-at {k} with --samples {samples}; expected 1 to {samples}, or more samples")
    if temperature == 0 and any(k > 1 for k in ks):
        raise FirstTokenError(
            f"--pass-at {max(ks)} at temperature 0, where all answers to a question are the same; give --temperature above 0, such as 0.8"
        )
