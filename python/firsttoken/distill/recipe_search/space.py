"""What of a recipe is searched, and the recipe that values of it make.

Only what the recipe has is searched, and only what can change the student: what is left out is said with the reason.
"""

from dataclasses import dataclass

from firsttoken.decoder.walk import open_decoder
from firsttoken.distill.losses.hidden import layer_pairs
from firsttoken.distill.objective import part_names
from firsttoken.distill.recipe import INSIDE, Loss, Recipe
from firsttoken.distill.schedules import Schedule
from firsttoken.distill.students import student_decoder
from firsttoken.errors import FirstTokenError, nearest

LEARNING_RATE, TEMPERATURE, WEIGHT = 5.0, 3.0, 10.0  # times up and down that the ranges go where none are given
DIGITS = 4  # of a drawn number, so that what is written is what was trained
Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Dimension:
    """One value that is searched: its range, the recipe's ``own``, and what it is; ``whole`` are integers, all others are drawn by logarithm."""

    name: str
    low: float
    high: float
    own: float
    what: str
    whole: bool = False


@dataclass(frozen=True)
class Space:
    """The dimensions, what is not searched and why, and of each loss (by its number) the layer pairs that it has."""

    dimensions: tuple[Dimension, ...]
    absent: dict[str, str]
    pairs: dict[int, Pairs]

    @property
    def own(self) -> dict[str, float]:
        """The recipe's own values."""
        return {each.name: each.own for each in self.dimensions}

    def shown(self) -> list[str]:
        """A line for every dimension and for everything left out."""
        return [f"{d.name}: {d.low:g} to {d.high:g} (the recipe's: {d.own:g}), {d.what}" for d in self.dimensions] + [
            f"{name}: not searched, {why}" for name, why in self.absent.items()
        ]


def space_of(recipe: Recipe, ranges: dict[str, tuple[float, float]], fixed: tuple[str, ...]) -> Space:
    """Returns what is searched of ``recipe``, with the given ``ranges`` in place of the default ones and without what is ``fixed``.

    Raises `FirstTokenError` for a name that is not searched, a range that is none or leaves out the recipe's own value, and
    where nothing is left.
    """
    rate = recipe.training.learning_rate
    found = [Dimension("learning_rate", rate / LEARNING_RATE, rate * LEARNING_RATE, rate, "training.learning_rate")]
    absent: dict[str, str] = {}
    for part in (temperatures(recipe, absent), weights(recipe, absent)):
        found += part
    pairs = pairs_by_loss(recipe, absent)
    moved, depth = pair_dimensions(recipe, pairs)
    found += moved
    known = [each.name for each in found]
    for name in (*ranges, *fixed):
        if name not in known:
            why = absent.get(name)
            raise FirstTokenError(
                f"search: {name!r} is not searched here{f', {why}' if why else nearest(name, known)}; expected one of {', '.join(known)}"
            )
    kept = [with_range(each, ranges.get(each.name), depth) for each in found if each.name not in fixed]
    absent |= {name: "fixed" for name in known if name in fixed}
    kept, single = [each for each in kept if each.low < each.high], [each.name for each in kept if each.low == each.high]
    absent |= dict.fromkeys(single, "its range holds one value")
    if not kept:
        raise FirstTokenError(f"search: nothing is left to search; expected at least one of {', '.join(known)} that is not fixed")
    return Space(tuple(kept), absent, pairs)


def with_range(dimension: Dimension, given: tuple[float, float] | None, depth: int) -> Dimension:
    """A dimension with the range that was given for it. Raises `FirstTokenError` for one that cannot be."""
    if given is None:
        return dimension
    low, high = given
    where = f"search: range of {dimension.name} is {low:g} to {high:g}"
    if low > high:
        raise FirstTokenError(f"{where}; expected the lower end first")
    if dimension.whole and (low != int(low) or high != int(high) or low < 0 or high >= depth):
        raise FirstTokenError(f"{where}; expected layers of the teacher, whole numbers from 0 to {depth - 1}")
    if not dimension.whole and low <= 0:
        raise FirstTokenError(f"{where}; expected both ends above 0")
    if not low <= dimension.own <= high:
        raise FirstTokenError(
            f"{where}, without the recipe's own {dimension.own:g}, which is the first trial; expected a range that holds it"
        )
    return Dimension(dimension.name, low, high, dimension.own, dimension.what, dimension.whole)


def temperatures(recipe: Recipe, absent: dict[str, str]) -> list[Dimension]:
    """The temperature, or both ends of its schedule."""
    if "temperature" not in recipe.model_fields_set:
        absent["temperature"] = "the recipe has no temperature"
        return []
    if not any(loss.kind not in (*INSIDE, "cross_entropy") for loss in recipe.losses):
        absent["temperature"] = "no loss of the recipe is softened by it"
        return []
    schedule = recipe.temperature
    ends = {"temperature": schedule.start}
    if moves(schedule):
        assert schedule.end is not None, "a schedule that moves has an end"
        ends = {"temperature_start": schedule.start, "temperature_end": schedule.end}
    return [Dimension(name, own / TEMPERATURE, own * TEMPERATURE, own, name.replace("_", ".")) for name, own in ends.items()]


def moves(schedule: Schedule) -> bool:
    """Whether a schedule has two ends."""
    return schedule.end is not None and schedule.end != schedule.start


def peak(schedule: Schedule) -> float:
    """The largest value it takes."""
    return max(schedule.start, schedule.end or 0.0)


def weights(recipe: Recipe, absent: dict[str, str]) -> list[Dimension]:
    """Every loss's weight but the first one's: an optimizer that divides by the gradient's size sees only how they relate."""
    found: list[Dimension] = []
    names = part_names(recipe.losses)
    for number, (name, loss) in enumerate(zip(names, recipe.losses, strict=True)):
        own = peak(loss.weight)
        if number == 0:
            absent[f"weight_{name}"] = "the other weights are searched against it" if len(names) > 1 else "it is the only loss"
        elif own == 0:
            absent[f"weight_{name}"] = "it is 0"
        else:
            of = f"weight of the loss {name}" + (" where it is largest" if moves(loss.weight) else "")
            found.append(Dimension(f"weight_{name}", own / WEIGHT, own * WEIGHT, own, of))
    return found


def pairs_by_loss(recipe: Recipe, absent: dict[str, str]) -> dict[int, Pairs]:
    """The layer pairs of every loss that has some, those of the default written out."""
    inside = {number: loss for number, loss in enumerate(recipe.losses) if loss.kind in INSIDE}
    if not inside:
        absent["pairs"] = "no loss of the recipe looks inside the models"
        return {}
    if len(recipe.teachers) > 1:
        absent["pairs"] = "the recipe has several teachers, and pairs are for one"
        return {}
    ours = len(student_decoder(recipe).layers)
    return {number: tuple(loss.pairs or layer_pairs(ours, teacher_depth(recipe))) for number, loss in inside.items()}


def teacher_depth(recipe: Recipe) -> int:
    """How many layers the first teacher has."""
    from firsttoken.checkpoint import Checkpoint

    with Checkpoint(recipe.teacher_folder()) as checkpoint:
        return len(open_decoder(checkpoint).layers)


def pair_names(pairs: dict[int, Pairs]) -> dict[tuple[int, int], str]:
    """A name for every pair: ``pair_`` and the student's layer, and the teacher's where one layer has several; losses with the same pair share it."""
    distinct = sorted({pair for each in pairs.values() for pair in each})
    layers = [ours for ours, _ in distinct]
    return {(s, t): f"pair_{s}" if layers.count(s) == 1 else f"pair_{s}_{t}" for s, t in distinct}


def pair_dimensions(recipe: Recipe, pairs: dict[int, Pairs]) -> tuple[list[Dimension], int]:
    """The teacher's layer of every pair, which moves by half the distance to the next one, and how many layers there are."""
    if not pairs:
        return [], 0
    depth, ours = teacher_depth(recipe), len(student_decoder(recipe).layers)
    reach = max(1, depth // (2 * ours))
    what = "the teacher's layer that the student's layer {} is compared with"
    return [
        Dimension(name, max(0, t - reach), min(depth - 1, t + reach), t, what.format(s), whole=True)
        for (s, t), name in pair_names(pairs).items()
    ], depth


def rounded(space: Space, drawn: dict[str, float]) -> dict[str, float]:
    """Drawn values as they are trained and written: `DIGITS` digits, the recipe's own ones as they are."""
    own = space.own
    return {name: value if value == own[name] or isinstance(value, int) else float(f"{value:.{DIGITS}g}") for name, value in drawn.items()}


def with_values(recipe: Recipe, space: Space, values: dict[str, float]) -> Recipe:
    """The recipe with these values of ``space`` in the place of its own."""
    training = recipe.training.model_copy(update={"learning_rate": values.get("learning_rate", recipe.training.learning_rate)})
    ends = {
        end: values[name]
        for name, end in {"temperature": "start", "temperature_start": "start", "temperature_end": "end"}.items()
        if name in values
    }
    if "temperature" in values and recipe.temperature.end is not None:
        ends["end"] = values["temperature"]
    losses = tuple(
        changed_loss(loss, name, space.pairs.get(number), pair_names(space.pairs), values)
        for number, (name, loss) in enumerate(zip(part_names(recipe.losses), recipe.losses, strict=True))
    )
    return recipe.model_copy(
        update={"training": training, "losses": losses, **({"temperature": recipe.temperature.model_copy(update=ends)} if ends else {})}
    )


def changed_loss(loss: Loss, name: str, pairs: Pairs | None, names: dict[tuple[int, int], str], values: dict[str, float]) -> Loss:
    """One loss with its weight and pairs of ``values``."""
    update: dict[str, object] = {}
    weight = values.get(f"weight_{name}")
    if weight is not None and weight != peak(loss.weight):
        update["weight"] = scaled(loss.weight, weight)
    if pairs is not None:
        new = tuple((s, int(values.get(names[s, t], t))) for s, t in pairs)
        if new != pairs:
            update["pairs"] = new
    return loss.model_copy(update=update)


def scaled(schedule: Schedule, top: float) -> Schedule:
    """A schedule of the same shape whose largest value is ``top``."""
    factor = top / peak(schedule)
    ends = {"start": schedule.start, "end": schedule.end}
    return schedule.model_copy(
        update={name: None if value is None else float(f"{value * factor:.{DIGITS}g}") for name, value in ends.items()}
    )
