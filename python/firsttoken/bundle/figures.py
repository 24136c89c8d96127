"""The figures of a proof, as a manifest has them."""

from firsttoken.bundle.part import Part


class Figures(Part):
    """Divergence from the FP32 checkpoint over ``tokens`` positions. KL divergence in nats per token."""

    tokens: int
    mean_kld: float
    p99_kld: float
    p999_kld: float
    same_top: float
    perplexity: float
    reference_perplexity: float
    perplexity_change: float
    magnitude_ratio: float
    first_diverging: str | None = None


class TwinFigures(Part):
    """Divergence from the plan computed on the host, in nats per token, and how far its kernels' rounding alone may carry it.

    ``allowed_kld`` is the bound on the mean.

    ``scale`` is the size of the logits in that of the host's, 1 where both agree.
    """

    positions: int
    mean_kld: float
    p5_kld: float
    worst_kld: float
    scale: float
    noise_mean_kld: float
    noise_p20_kld: float
    noise_worst_kld: float
    allowed_kld: float
