"""What a proof says of a compared artifact: figures over all positions and over parts of them, and every bound that they miss."""

import hashlib
from typing import Protocol

import numpy as np

from firsttoken.bundle.figures import Figures
from firsttoken.bundle.manifest import Proof
from firsttoken.prove import twin
from firsttoken.prove.compare import Compared
from firsttoken.prove.divergence import figures
from firsttoken.prove.gate import missed_figures, missed_worst
from firsttoken.prove.windows import Window
from firsttoken.quant.plan import Plan
from firsttoken.targets.target import Target

BUCKETS = ((0, 64), (64, 256), (256, 1024), (1024, 4096), (4096, 1 << 30))  # rows of the cache
FEWEST_POSITIONS = 16  # with fewer nothing is proven


class Judged(Protocol):
    """What is judged: a bundle's manifest, or a file with the plan whose bounds it is held to."""

    @property
    def plan(self) -> Plan: ...
    @property
    def target(self) -> Target: ...


def sum_up(manifest: Judged, seen: Compared, windows: list[Window], name: str, text: str, fewest: int = FEWEST_POSITIONS) -> Proof:
    """Figures over all positions, held against the plan's gate and the twin; ``name`` and ``text`` are the held-out text's.

    A position diverges where its KL divergence is past the gate's bound for the 99th percentile.
    """
    gate, divergence = manifest.plan.gate, seen.divergence
    past = np.flatnonzero(divergence.kld > gate.p99_kld)

    def part(chosen: np.ndarray) -> Figures:
        first = next((n for n in past if chosen[n]), None)
        return figures(divergence, chosen, None if first is None else f"{seen.places[first]}, {divergence.kld[first]:.3g} nats")

    groups = parts_of(manifest, seen, windows)
    everything = part(np.ones(len(seen.kinds), bool))
    misses = [] if len(seen.kinds) >= fewest else [f"compared at {len(seen.kinds)} positions only; at least {fewest} make a proof"]
    if seen.expected.overflow:
        misses.append(f"FP16 overflow first in {seen.expected.overflow}; give it fp32 or int8 in the plan")
    misses += missed_figures(gate, everything, {group: part(chosen) for group, chosen in groups.items()})
    misses += missed_worst(gate, divergence, seen.places)
    against_twin = None
    if seen.expected.twin is not None:
        against_twin = twin.figures(seen.fits, seen.expected.twin)
        misses += twin.missed(against_twin, seen.fits, seen.expected.twin, groups)
    return Proof(
        text=name,
        text_sha256=hashlib.sha256(text.encode()).hexdigest(),
        last_position=int(seen.positions.max()),
        twin=against_twin,
        prefill=part(seen.kinds != "decode"),
        decode=part(seen.kinds == "decode"),
        all=everything,
        passed=not misses,
        misses=misses,
    )


def parts_of(manifest: Judged, seen: Compared, windows: list[Window]) -> dict[str, np.ndarray]:
    """Which positions belong to a kind of call, a part of the cache, or the chat; only those parts that have any."""
    groups = {f"the {kind} calls": seen.kinds == kind for kind in ("first", "extend", "decode")}
    for start, stop in BUCKETS:
        stop = min(stop, manifest.target.cache_length)
        groups[f"positions {start} to {stop - 1}"] = (seen.positions >= start) & (seen.positions < stop)
    names = np.repeat([window.name for window in windows], [len(window.positions) for window in windows])
    groups |= {f"the {name}": names == name for name in {window.name for window in windows if window.name}}
    return {group: chosen for group, chosen in groups.items() if chosen.any()}
