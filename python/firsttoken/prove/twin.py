"""Was it built right? The artifact held against its twin: the same plan computed on the host, without the lowering.

How far a rightly built artifact may be from its twin depends on the model, the plan and the kernels: a float that is rounded the other way flips
an int8 activation, and from there on the two go different ways. So the distance is measured: the twin is run a second time with the
kernels' own rounding errors added at random, and the artifact must not be further away than that, times `SLACK`. A fault of
arithmetic (a bias that was dropped, another rotary base, a scaled eighth of a matrix) adds its own distance at every position; what
scales all logits shows in their slope.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from firsttoken.backends.interface import Backend
from firsttoken.bundle.manifest import TwinFigures
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import plan_layers
from firsttoken.prove.arithmetic import Planned
from firsttoken.prove.divergence import diverge_at
from firsttoken.prove.reference import HEAD
from firsttoken.prove.windows import Window
from firsttoken.quant.plan import Plan

SEED = 20261128
SLACK = 1.6  # of the measured distance, for the mean and the median over all positions
SLACK_PART = 3.0  # of that or of the plan's own damage, for the mean over one kind of call or part of the cache, which has few positions
# Below this nothing shows in any answer: float32's own rounding, and kernels' approximations of exp.
NEGLIGIBLE_MEAN, NEGLIGIBLE_MEDIAN = 2e-9, 1e-6  # nats
SLOPE = 0.006  # of the logits on the twin's; a factor of 1.01 on all logits is one on the temperature
NOISE_TOKENS = 900  # of the windows that are run with noise too


def planned(decoder: Decoder, plan: Plan, precisions: Mapping[str, str], backend: Backend, noise: bool = False) -> Planned:
    """The arithmetic of a plan on a backend; with ``noise``, the kernels' rounding errors at random."""
    names = {layer.weight: layer.name for layer in plan_layers(decoder) if layer.kind == "linear" and layer.weight and layer.name != "head"}
    activations = {precision: backend.activations(precision) for precision in set(precisions.values())}
    generator = np.random.default_rng(SEED) if noise else None
    return Planned(names | {HEAD: "head"}, precisions, activations, backend.weight_grid, plan.group_size, generator)


def noise_windows(windows: list[Window]) -> list[int]:
    """Which windows are run with noise: from the first on up to `NOISE_TOKENS` together, but the walk through the cache; at least one."""
    chosen: list[int] = []
    tokens = 0
    for n, window in enumerate(windows):
        if window.walk or (chosen and tokens + len(window.tokens) > NOISE_TOKENS):
            continue
        chosen.append(n)
        tokens += len(window.tokens)
    return chosen or [0]


@dataclass(frozen=True)
class Fit:
    """One position: the divergence from the twin in nats, and the slope of the logits on the twin's (both without their mean)."""

    kld: float
    slope: float


def fit(logits: np.ndarray, twin: np.ndarray) -> Fit:
    """Compares one position's logits ``[vocab]`` with the twin's."""
    kld = diverge_at(logits, twin, 0)[0]
    if not np.isfinite(logits).all():
        return Fit(kld, 0.0)
    ours, theirs = (values.astype(np.float64) - values.mean(dtype=np.float64) for values in (logits, twin))
    return Fit(kld, float(ours @ theirs / max(theirs @ theirs, 1e-30)))


@dataclass(frozen=True)
class Distances:
    """In nats, at every compared position: of the noisy twin from the twin (NaN where it was not run), and of the twin from the checkpoint."""

    noise: np.ndarray
    damage: np.ndarray


def figures(fits: list[Fit], distances: Distances) -> TwinFigures:
    """Sums up the positions that were run with noise too, and the slope over all."""
    both = ~np.isnan(distances.noise)
    kld, noise = np.array([one.kld for one in fits])[both], distances.noise[both]
    return TwinFigures(
        positions=len(kld),
        mean_kld=float(kld.mean()),
        median_kld=float(np.median(kld)),
        worst_kld=float(kld.max()),
        slope=float(np.mean([one.slope for one in fits])),
        noise_mean_kld=float(noise.mean()),
        noise_median_kld=float(np.median(noise)),
        noise_worst_kld=float(noise.max()),
    )


def missed(found: TwinFigures, fits: list[Fit], distances: Distances, groups: Mapping[str, np.ndarray]) -> list[str]:
    """One line for every way in which the artifact is not its twin. ``groups`` choose positions by kind of call and part of the cache."""
    misses = []

    def check(name: str, got: float, bound: float) -> None:
        if not got <= bound:
            misses.append(f"not built as the plan says: {name} {got:.3g} nats from the plan computed on the host; its kernels' rounding explains {bound:.3g}")  # fmt: skip

    check("mean divergence", found.mean_kld, SLACK * found.noise_mean_kld + NEGLIGIBLE_MEAN)
    check("median divergence", found.median_kld, SLACK * found.noise_median_kld + NEGLIGIBLE_MEDIAN)
    if not abs(found.slope - 1) <= SLOPE:
        misses.append(
            f"not built as the plan says: logits are {found.slope:.4f} times those of the plan computed on the host; expected 1 ± {SLOPE:g}"
        )
    kld = np.array([one.kld for one in fits])
    for name, chosen in groups.items():
        # over a long text the two go ways as different as two roundings of the same weights, and no further
        bound = SLACK_PART * max(found.noise_mean_kld, float(distances.damage[chosen].mean())) + NEGLIGIBLE_MEDIAN
        check(f"mean divergence over {name}", float(kld[chosen].mean()), bound)
    return misses
