"""What a plan may take, and what is said and done where an export takes more."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from firsttoken.bundle.figures import Figures
from firsttoken.search.candidates import Candidate
from firsttoken.search.choice import Bounds, Cost, Costs, choose
from firsttoken.search.costs import Real
from firsttoken.units import readable, told_apart

STEP = 0.001  # of a size: the least by which a choice gets smaller
RESTLESS = 0.05  # of times: by more a bound of some percent means little
SAFETY = 0.98  # of what is left after a miss, so that the next one does not miss by a hair


@dataclass(frozen=True)
class Budget:
    """What a plan may take: ``size`` bytes of the artifact, ``kld`` nats a token in its proof, ``first_token`` and ``decode`` times the INT8 plan's own."""

    size: int | None = None
    kld: float | None = None
    first_token: float | None = None
    decode: float | None = None

    @property
    def timed(self) -> bool:
        return self.first_token is not None or self.decode is not None

    def bounds(self, real: Real) -> Bounds:
        """In the units of costs, of which ``real`` is the INT8 artifact's."""
        times = [
            None if ratio is None else ratio * own for ratio, own in ((self.first_token, real.first_token), (self.decode, real.decode))
        ]
        return Bounds(self.kld, self.size, *times)

    @property
    def least(self) -> str:
        """What is made small: the damage where it has no bound, else bytes, prefill or decode, the first without one."""
        given = {"damage": self.kld, "bytes": self.size, "prefill": self.first_token, "decode": self.decode}
        return next((what for what, most in given.items() if most is None), "damage")


def misses(budget: Budget, real: Real, base: Real, kld: float) -> list[str]:
    """What of the budget an export did not keep, in words."""
    found = []
    if budget.size is not None and real.bytes > budget.size:
        found.append(f"is {' instead of '.join(told_apart(real.bytes, budget.size))}")
    if budget.kld is not None and kld > budget.kld:
        found.append(f"has a mean KL divergence of {kld:.2e} instead of {budget.kld:.2e}")
    for what, most, ratio in (
        ("first token", budget.first_token, ratio_of(real.first_token, base.first_token)),
        ("decode", budget.decode, ratio_of(real.decode, base.decode)),
    ):
        if most is not None and ratio > most:
            found.append(f"takes {ratio:.2f} times INT8's time for {what} instead of {most:g}")
    return found


def ratio_of(one: float, other: float) -> float:
    return one / other if other else 0.0


def tighter(now: Bounds, asked: Bounds, budget: Budget, predicted: Cost, real: Real, base: Real, kld: float) -> Bounds:
    """Bounds of the next choice: each that was missed, less what the prediction was short of."""
    size, damage, prefill, decode = now.bytes, now.damage, now.prefill, now.decode
    if asked.bytes is not None and real.bytes > asked.bytes and size is not None:
        size = min(size, predicted.bytes) - max(real.bytes - asked.bytes, STEP * asked.bytes)
    if asked.damage is not None and kld > asked.damage and damage is not None:
        damage = min(damage, predicted.damage) * asked.damage / kld * SAFETY
    if (
        budget.first_token is not None
        and prefill is not None
        and (got := ratio_of(real.first_token, base.first_token)) > budget.first_token
    ):
        prefill = min(prefill, predicted.prefill) * budget.first_token / got * SAFETY
    if budget.decode is not None and decode is not None and (got := ratio_of(real.decode, base.decode)) > budget.decode:
        decode = min(decode, predicted.decode) * budget.decode / got * SAFETY
    return Bounds(damage, size, prefill, decode)


def told(number: int, real: Real, predicted: Cost, figures: Figures, missed: list[str], last: bool) -> str:
    """A line about one export; ``last``: none comes after it."""
    restless = (
        f"; its times vary by {real.unrest:.0%} from round to round, as on a machine that does something else besides"
        if real.unrest > RESTLESS
        else ""
    )
    verdict = restless + f"; {'; '.join(missed)}{'' if last else ', so the next choice is tighter'}" if missed else ""
    return (
        f"export {number}: {readable(real.bytes)} (predicted {readable(int(predicted.bytes))}), mean KL divergence {figures.mean_kld:.2e} "
        f"(predicted {predicted.damage:.2e}), same top {figures.same_top:.1%}{verdict}"
    )


def unreachable(costs: Costs, bounds: Bounds, base: Real, exported: bool) -> str:
    """What can be reached of each bound alone, and by what."""
    said = []
    names = {
        "damage": "a damage of {:.2e} nats",
        "bytes": "{}",
        "prefill": "{:.2f} times INT8's first token",
        "decode": "{:.2f} times INT8's decoding",
    }
    scale = {"damage": 1.0, "bytes": 1.0, "prefill": base.first_token or 1.0, "decode": base.decode or 1.0}
    for what in bounds.given:
        others = replace(bounds, **{what: None})
        within = choose(costs, others, what)
        alone = within or choose(costs, Bounds(), what)
        if alone is None:
            continue
        value = getattr(costs.total(alone), what) / scale[what]
        shown = names[what].format(readable(value) if what == "bytes" else value)
        said.append(f"{shown}{' within the others' if within and len(bounds.given) > 1 else ''} ({mostly(alone)})")
    after = " after what the exports showed, by which its bounds were made tighter than asked" if exported else ""
    return f"no plan is within this budget{after}; within reach: {'; '.join(said)}. Give a wider budget"


def mostly(choice: Mapping[str, Candidate]) -> str:
    """How many layers a choice has in each candidate."""
    counts: dict[str, int] = {}
    for one in choice.values():
        counts[one.label] = counts.get(one.label, 0) + 1
    return ", ".join(f"{count} in {label}" for label, count in sorted(counts.items(), key=lambda pair: -pair[1]))
