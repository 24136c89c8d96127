"""Was it built right? The artifact held against its twin: the same plan computed on the host, without the lowering.

How far a rightly built artifact may be from its twin depends on the model, the plan and the kernels: a float that is rounded the other way flips
an int8 activation, and from there on the two go different ways. So the distance is measured: the twin is run a second time with the
kernels' own rounding errors added at random, and the artifact must not be further away than that, times `SLACK`. A fault of
arithmetic (a bias that was dropped, another rotary base, a scaled eighth of a matrix) adds its own distance at every position; what
scales all logits shows in their size.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from firsttoken.backends.interface import Backend
from firsttoken.bundle.figures import TwinFigures
from firsttoken.bundle.integer_facts import CalibrationFacts
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.precisions import STATIC
from firsttoken.prove.arithmetic import Planned
from firsttoken.prove.divergence import diverge_at
from firsttoken.prove.reference import HEAD
from firsttoken.prove.windows import CHAT, Window
from firsttoken.quant.plan import Plan

SEED = 20261128
SLACK = 1.6  # of the measured distance, for the mean over all positions and for those that agree best
PARTED = 0.05  # share of positions at which the noisy twin has gone another way, from which on their mean is known
SATURATED = 0.5  # of the plan's own damage: as far as two roundings of the same weights go apart, measured 0.2 to 0.5
SLACK_PART = 3.0  # of that or of the plan's own damage, for the mean over one kind of call or part of the cache, which has few positions
# Below this nothing shows in any answer: float32's own rounding, and kernels' approximations of exp.
NEGLIGIBLE, NEGLIGIBLE_PART = 2e-9, 1e-6  # nats
SCALE = 0.006  # of the logits' size, in the twin's; a factor of 1.01 on all logits is one on the temperature
TWIN_TOKENS = 560  # of the held-out windows that the twin is run on, besides the chat


def planned(
    decoder: Decoder,
    plan: Plan,
    precisions: Mapping[str, str],
    backend: Backend,
    noise: bool = False,
    calibration: CalibrationFacts | None = None,
) -> Planned:
    """The arithmetic of a plan on a backend, with the ranges of ``calibration``; with ``noise``, the kernels' rounding errors at random. Raises `FirstTokenError` for a missing range."""
    names = {layer.weight: layer.name for layer in plan_layers(decoder) if layer.kind == "linear" and layer.weight and layer.name != "head"}
    activations = {precision: backend.activations(precision) for precision in set(precisions.values())}
    generator = np.random.default_rng(SEED) if noise else None
    ranges = {} if calibration is None else calibration.ranges
    if without := [name for name, kind in precisions.items() if kind in STATIC and name not in ranges]:
        raise FirstTokenError(
            f"{without[0]}: the manifest has no calibrated ranges of it, which {precisions[without[0]]} needs; export again"
        )
    return Planned(
        names | {HEAD: "head"},
        precisions,
        activations,
        backend.weight_grid,
        plan.group,
        generator,
        plan.apart,
        ranges,
        backend.half_floats,
        backend.half_gelu,
    )


def twin_windows(windows: list[Window]) -> list[int]:
    """Which windows the twin is run on: the chat, and from the first on up to `TWIN_TOKENS` together; not the dear walk through the cache."""
    chosen: list[int] = []
    tokens = 0
    for n, window in enumerate(windows):
        if window.name == CHAT:
            chosen.append(n)
        elif not window.walk and (not tokens or tokens + len(window.tokens) <= TWIN_TOKENS):
            chosen.append(n)
            tokens += len(window.tokens)
    return chosen or [0]


@dataclass(frozen=True)
class Twin:
    """The twin's logits float32 ``[twin positions, vocab]``, and for every compared position the row in them, -1 where it was not run.

    In nats ``[twin positions]``: ``noise`` is how far its kernels' own rounding carries the plan from itself, ``damage`` how far the plan is
    from the reference.
    """

    logits: np.ndarray
    row: np.ndarray
    noise: np.ndarray
    damage: np.ndarray


@dataclass(frozen=True)
class Fit:
    """One position: the divergence from the twin in nats, and the logits' size in the twin's (both as norms, without their mean).

    Not the slope of one on the other: rounding that goes another way in each would make it less than 1, the more the noisier a model is.
    """

    kld: float
    scale: float


def fit(logits: np.ndarray, twin: np.ndarray) -> Fit:
    """Compares one position's logits ``[vocab]`` with the twin's."""
    kld = diverge_at(logits, twin, 0)[0]
    if not np.isfinite(logits).all():
        return Fit(kld, 0.0)
    ours, theirs = (values.astype(np.float64) - values.mean(dtype=np.float64) for values in (logits, twin))
    return Fit(kld, float(np.sqrt(ours @ ours / max(theirs @ theirs, 1e-30))))


def figures(fits: list[Fit], twin: Twin) -> TwinFigures:
    """Sums up the positions at which the twin was run."""
    kld, noise = np.array([one.kld for one in fits]), twin.noise
    return TwinFigures(
        positions=len(kld),
        mean_kld=float(kld.mean()),
        p5_kld=float(np.percentile(kld, 5)),
        worst_kld=float(kld.max()),
        scale=float(np.mean([one.scale for one in fits])),
        noise_mean_kld=float(noise.mean()),
        noise_p20_kld=float(np.percentile(noise, 20)),
        noise_worst_kld=float(noise.max()),
        allowed_kld=SLACK * parted(twin) + NEGLIGIBLE,
    )


def parted(twin: Twin) -> float:
    """How far the twin is from itself with noise where the two have gone different ways, nats: a mean over positions.

    In a short text of a small model hardly any rounding goes another way, and whether one does is chance; then the plan's damage says how far it
    would carry.
    """
    away = twin.noise > NEGLIGIBLE
    mean = float(twin.noise[away].mean()) if away.any() else 0.0
    return mean if away.mean() >= PARTED else max(mean, SATURATED * float(twin.damage.mean()))


NOT_BUILT = "not built as the plan says: "


def missed(found: TwinFigures, fits: list[Fit], twin: Twin, groups: Mapping[str, np.ndarray]) -> list[str]:
    """One line for every way in which the artifact is not its twin. ``groups`` choose positions by kind of call and part of the cache."""
    misses = []

    def check(name: str, got: float, bound: float) -> None:
        if not got <= bound:
            misses.append(f"{NOT_BUILT}{name} {got:.3g} nats from the plan computed on the host; its kernels' rounding explains {bound:.3g}")  # fmt: skip

    check("mean divergence", found.mean_kld, found.allowed_kld)
    # where no rounding has gone another way yet, both agree to the last digits; a fault of arithmetic shows there first
    check("even where it agrees best it is", found.p5_kld, SLACK * found.noise_p20_kld + NEGLIGIBLE)
    if not abs(found.scale - 1) <= SCALE:
        misses.append(f"{NOT_BUILT}logits are {found.scale:.4f} times those of the plan computed on the host; expected 1 ± {SCALE:g}")
    kld = np.array([one.kld for one in fits])
    for name, chosen in groups.items():
        here = chosen[twin.row >= 0]
        if here.any():
            # over a long text the two go ways as different as two roundings of the same weights, and no further
            bound = SLACK_PART * max(found.noise_mean_kld, float(twin.damage[here].mean())) + NEGLIGIBLE_PART
            check(f"mean divergence over {name}", float(kld[here].mean()), bound)
    return misses
