"""The choice of a candidate for every layer: the least damage within bounds, or the least bytes or time within a damage, as an integer programme.

Damages of single layers add up: their sum was 0.93 to 1.09 of the whole's, measured on two checkpoints. The programme is solved by scipy's `milp` (HiGHS).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from firsttoken.quiet import quiet_output
from firsttoken.search.candidates import Candidate

QUANTITIES = ("damage", "bytes", "prefill", "decode")
GAP = 1e-4  # of the best possible, within which a choice is good enough
SECONDS = 20.0  # for one programme


@dataclass(frozen=True)
class Cost:
    """What a layer adds as one candidate has it: ``damage`` in nats a token, ``bytes`` of the artifact, ``prefill`` and ``decode`` in nanoseconds
    (of a prompt's call, of a token); 0 where nothing was measured."""

    damage: float
    bytes: float
    prefill: float = 0.0
    decode: float = 0.0


@dataclass(frozen=True)
class Costs:
    """All costs of a model: by layer and candidate, and what is there whatever is chosen. ``shared``: two layers over one table, which is stored once
    where both hold it alike."""

    layers: Mapping[str, Mapping[Candidate, Cost]]
    fixed: Cost
    shared: tuple[str, str] | None = None

    def total(self, choice: Mapping[str, Candidate]) -> Cost:
        """The sum over the layers of a choice."""
        chosen = [self.layers[name][candidate] for name, candidate in choice.items()]
        sums = [getattr(self.fixed, what) + sum(getattr(cost, what) for cost in chosen) for what in QUANTITIES]
        if self.shared is not None:
            one, other = (choice[name] for name in self.shared)
            if one.stored == other.stored:
                sums[1] -= min(self.layers[name][choice[name]].bytes for name in self.shared)
        return Cost(*sums)


@dataclass(frozen=True)
class Bounds:
    """The most of each quantity that a choice may have; None: whatever."""

    damage: float | None = None
    bytes: float | None = None
    prefill: float | None = None
    decode: float | None = None

    @property
    def given(self) -> list[str]:
        return [what for what in QUANTITIES if getattr(self, what) is not None]

    def hold(self, cost: Cost) -> bool:
        """Whether a choice of this cost is within them."""
        return all(getattr(cost, what) <= getattr(self, what) for what in self.given)


def choose(costs: Costs, bounds: Bounds, least: str = "damage") -> dict[str, Candidate] | None:
    """Returns the candidate of every layer with the least of ``least`` within ``bounds``; None where nothing is within them.

    Of two that are as good, the one with less of everything else: each counts a millionth of its own largest sum.
    """
    from scipy.optimize import Bounds as Interval
    from scipy.optimize import LinearConstraint, milp
    from scipy.sparse import lil_matrix

    places = [(name, candidate) for name, own in costs.layers.items() for candidate in own]
    index = {place: n for n, place in enumerate(places)}
    table = {what: np.array([getattr(costs.layers[name][candidate], what) for name, candidate in places]) for what in QUANTITIES}
    saved = saving(costs, index)
    size = len(places) + len(saved)
    wide = {what: np.concatenate([values, np.zeros(len(saved))]) for what, values in table.items()}
    wide["bytes"][len(places) :] = [-amount for _, _, amount in saved]
    possible = np.isfinite(wide["damage"])
    wide["damage"] = np.where(possible, wide["damage"], 0)
    rows = lil_matrix((len(costs.layers) + 2 * len(saved) + len(bounds.given), size))
    low, high = np.full(rows.shape[0], -np.inf), np.zeros(rows.shape[0])
    for row, name in enumerate(costs.layers):
        rows[row, [index[name, candidate] for candidate in costs.layers[name]]] = 1
        low[row] = high[row] = 1
    row = len(costs.layers)
    for n, (one, other, _) in enumerate(saved):  # saved only where both are chosen
        for place in (one, other):
            rows[row, len(places) + n], rows[row, place] = 1, -1
            row += 1
    for what in bounds.given:
        scale = max(np.abs(wide[what]).max(), 1e-30)
        rows[row] = wide[what] / scale
        high[row] = (getattr(bounds, what) - getattr(costs.fixed, what)) / scale
        row += 1
    goal = sum(wide[what] / max(np.abs(wide[what]).sum(), 1e-30) * (1.0 if what == least else 1e-6) for what in QUANTITIES)
    with quiet_output():  # HiGHS prints lines of its own now and then
        found = milp(
            goal,
            constraints=LinearConstraint(rows.tocsr(), low, high),
            integrality=np.ones(size),
            bounds=Interval(0, np.concatenate([possible[: len(places)].astype(float), np.ones(len(saved))])),
            options={"mip_rel_gap": GAP, "time_limit": SECONDS},
        )
    if found.x is None:
        return None
    return {name: candidate for (name, candidate), taken in zip(places, found.x, strict=False) if taken > 0.5}


def saving(costs: Costs, index: Mapping[tuple[str, Candidate], int]) -> list[tuple[int, int, float]]:
    """The two places of a shared table that is held alike, and the bytes that they need once."""
    if costs.shared is None:
        return []
    one, other = costs.shared
    alike = [(a, b) for a in costs.layers[one] for b in costs.layers[other] if a.stored == b.stored]
    return [(index[one, a], index[other, b], min(costs.layers[one][a].bytes, costs.layers[other][b].bytes)) for a, b in alike]


def front(costs: Costs, points: int = 24) -> list[dict[str, Candidate]]:
    """The choices of least damage at ``points`` sizes, evenly spread by ratio from the smallest possible to the one without damage."""
    smallest, best = choose(costs, Bounds(), "bytes"), choose(costs, Bounds(), "damage")
    if smallest is None or best is None:
        return []
    sizes = np.geomspace(costs.total(smallest).bytes, max(costs.total(best).bytes, costs.total(smallest).bytes * 1.001), points)
    found = [choose(costs, Bounds(bytes=float(size) * (1 + 1e-9))) for size in sizes]
    distinct = {tuple(choice.items()): choice for choice in found if choice}
    return list(distinct.values())
