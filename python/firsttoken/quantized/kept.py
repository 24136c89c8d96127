"""Keeping integers that a checkpoint has already, where a plan gives their layer the precision and the groups that they are of."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from firsttoken.bundle.integer_facts import CalibrationFacts, KeptIntegers
from firsttoken.checkpoint import Checkpoint
from firsttoken.checkpoint_over import CheckpointOver
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import Layer, plan_layers
from firsttoken.lattice import Lattice
from firsttoken.precisions import PRECISIONS
from firsttoken.quant.plan import Group, Plan
from firsttoken.quantized.fit import fitted
from firsttoken.quantized.recognise import BLOCK_VALUES, is_lattice, recognised, unit_of
from firsttoken.weight_source import Source

Form = tuple[str, Group | None]  # a rule's precision and group
FLOATS = "floats on a lattice"  # the form of what is recognised


@dataclass(frozen=True)
class Kept:
    """A weight that keeps its integers: ``group`` columns of a row share a scale in the file; ``unit`` only where they were recognised in floats."""

    lattice: Lattice
    precision: str
    group: int
    unit: float | None = None

    def grouped(self, columns: int) -> bool:
        return PRECISIONS[self.precision].scales == "group" and self.group != columns


@dataclass
class Decision:
    """What is kept, by weight, and what is said of it."""

    kept: dict[Source, Kept] = field(default_factory=dict)
    facts: list[KeptIntegers] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Integers:
    """Where a bundle's integers come from, where they are not the nearest: a text, or the checkpoint that had them."""

    calibration: CalibrationFacts | None = None
    kept: list[KeptIntegers] = field(default_factory=list)


class KeptCheckpoint(CheckpointOver):
    """``base``, whose weights in ``decision.kept`` come with the scales that a file stores for them. All values are the base's."""

    def __init__(self, base: Checkpoint, decision: Decision) -> None:
        super().__init__(base)
        self.decision = decision

    @property
    def original(self) -> Checkpoint:
        below = self.base.original
        return self if below is self.base else below

    def scales(self, source: Source, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        kept = self.decision.kept.get(source) if isinstance(source, Source) else None
        if kept is None:
            return self.base.scales(source, start, stop)
        return fitted_rows(self.base, source, kept, start, stop)[0]


def fitted_rows(checkpoint: Checkpoint, source: Source, kept: Kept, start: int, stop: int | None) -> tuple[np.ndarray, np.ndarray]:
    """`fit.fitted` of rows of one weight: the scales to store and which groups lose something."""
    rows = checkpoint.rows(source, start, stop)
    if kept.unit is None:
        scales = checkpoint.stored_scales(source, start, stop)
        scales = scales.repeat(rows.shape[1] // kept.group // scales.shape[1], axis=1)
    else:
        found = recognised(rows, kept.group, kept.precision, kept.unit)
        assert found is not None, f"{source.name}: rows {start} to {stop} were on a lattice when the whole was read"
        scales = found
    return fitted(rows, scales, kept.precision, kept.grouped(rows.shape[1]))


def holds(lattice: Lattice, precision: str, group: int, columns: int) -> bool:
    """Whether a precision with a scale for ``group`` columns holds the lattice's integers: it has their bits, and no group of it reaches over two of theirs."""
    return PRECISIONS[precision].bits >= PRECISIONS[lattice.precision].bits and lattice.group_of(columns) % group == 0


def decide(source: Checkpoint, decoder: Decoder, plan: Plan, precisions: Mapping[str, str]) -> Decision:
    """Which layers keep their integers under a plan, and what has to be said of those that do and those that do not."""
    decision = Decision()
    by_weight: dict[Source, list[Layer]] = {}
    for layer in plan_layers(decoder):
        if layer.weight is not None:
            by_weight.setdefault(layer.weight, []).append(layer)
    kept: dict[tuple[Lattice, str, int | None], Counts] = {}
    lost: dict[tuple[str, str], list[str]] = {}
    for weight, layers in by_weight.items():
        found, why = _of_weight(source, weight, layers, plan, precisions)
        if found is None:
            if why:
                lost.setdefault((str(source.lattice(weight)), why), []).extend(layer.name for layer in layers)
            continue
        shape = layers[0].matrix[1]
        counts = count(source, weight, shape, found)
        decision.kept[weight] = found
        group = None if found.group == shape[1] else found.group
        kept.setdefault((found.lattice, found.precision, group), Counts()).add(counts, [layer.name for layer in layers])
    for (lattice, precision, group), counts in kept.items():
        decision.facts.append(counts.facts(lattice, precision, group))
        decision.lines.append(counts.line(lattice))
    decision.lines += [
        f"{len(names)} layers ({names[0]}{' …' if len(names) > 1 else ''}) are stored as {what}, but {why}"
        for (what, why), names in lost.items()
    ]
    return decision


def _of_weight(
    source: Checkpoint, weight: Source, layers: list[Layer], plan: Plan, precisions: Mapping[str, str]
) -> tuple[Kept | None, str]:
    """How a weight is kept; else why what it is stored as is not, empty where it is stored as no integers."""
    shape = layers[0].matrix[1]
    wanted = {(PRECISIONS[precisions[layer.name]].weight, plan.group(layer.name, shape[1])) for layer in layers}
    lattice = source.lattice(weight)
    precision, group = next(iter(wanted))
    if len(wanted) > 1 or PRECISIONS[precision].scales is None:
        return None, f"plan {plan.name!r} computes them in {precision}" if lattice is not None and PRECISIONS[precision].bits < 16 else ""
    if any(plan.method(layer.name) == "gptq" for layer in layers):
        return None, 'method "gptq" chooses other integers; leave the method out to keep them' if lattice is not None else ""
    if lattice is None:
        if not is_lattice(source, weight, shape, group, precision):
            return None, ""
        found = Lattice(precision, None if group == shape[1] else group, FLOATS)
        return Kept(found, precision, group, unit_of(source, weight, precision)), ""
    if holds(lattice, precision, group, shape[1]):
        return Kept(lattice, precision, group), ""
    what = precision if PRECISIONS[precision].scales == "row" else f"{precision} in groups of {group}"
    if form(lattice, shape[1]) is None:
        groups = "int8 in groups" if lattice.precision == "int8" else f"groups of {lattice.group}"
        return None, f"no kernel has {groups}: plan {plan.name!r} rounds them to {what} again, fp16 keeps 11 bits of each"
    return None, f"plan {plan.name!r} rounds them to {what} again; --plan as-stored keeps their integers"


def form(lattice: Lattice, columns: int) -> Form | None:
    """The precision and group of a rule under which kernels take a lattice's integers; None where none do."""
    group = lattice.group_of(columns)
    if lattice.precision == "int8":
        return ("int8", None) if group == columns else None
    if group == columns:
        return "int4", "row"
    return ("int4", group) if group in get_args(Group) else None  # type: ignore[return-value]  # one of its numbers


@dataclass
class Counts:
    """What was counted over kept weights: groups, those that lose something, and the largest change of a scale as a part of it."""

    layers: list[str] = field(default_factory=list)
    groups: int = 0
    inexact: int = 0
    scale_change: float = 0.0

    def add(self, other: "Counts", layers: list[str]) -> None:
        self.layers += layers
        self.groups, self.inexact = self.groups + other.groups, self.inexact + other.inexact
        self.scale_change = max(self.scale_change, other.scale_change)

    def facts(self, lattice: Lattice, precision: str, group: int | None) -> KeptIntegers:
        return KeptIntegers(
            form=lattice.form,
            stored=str(lattice),
            precision=precision,
            group=group,
            layers=self.layers,
            groups=self.groups,
            inexact_groups=self.inexact,
            scale_change=self.scale_change,
        )

    def line(self, lattice: Lattice) -> str:
        whole = f"{len(self.layers)} layers keep their integers as they are stored ({lattice})"
        if self.scale_change:
            whole += f", their scales rounded to bfloat16 as kernels hold them (by {self.scale_change:.2%} at most)"
        if self.inexact and lattice.precision == "int8":
            whole += f"; {self.inexact} of their {self.groups} rows have the integer -128 twice, which old ARM kernels add up wrongly, and are rounded anew"
        elif self.inexact:
            whole += (
                f"; {self.inexact / self.groups:.0%} of their groups have a negative scale and the integer -8, whose opposite has no place: "
                "there the scale with the least error is taken"
            )
        return whole


def count(source: Checkpoint, weight: Source, shape: tuple[int, int], kept: Kept) -> Counts:
    """Reads a whole weight block by block and counts what keeping it loses."""
    counts = Counts()
    for start, stop in blocks(shape):
        scales, inexact = fitted_rows(source, weight, kept, start, stop)
        counts.groups += inexact.size
        counts.inexact += int(inexact.sum())
        if kept.unit is None:
            given = np.abs(source.stored_scales(weight, start, stop)).repeat(
                scales.shape[1] // source.stored_scales(weight, start, start + 1).shape[1], axis=1
            )
            change = np.abs(scales / np.maximum(given, np.float32(1e-30)) - 1)[~inexact & (given > 0)]
            counts.scale_change = max(counts.scale_change, float(change.max(initial=0)))
    return counts


def blocks(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """``(start, stop)`` of blocks of rows of at most `BLOCK_VALUES` values."""
    step = max(1, BLOCK_VALUES // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


def lost_by_smoothing(source: Checkpoint, smoothed: Checkpoint, decoder: Decoder) -> list[str]:
    """A line where smoothing took layers off the lattice that they are stored on."""
    lost = [
        layer.name
        for layer in plan_layers(decoder)
        if layer.weight is not None and source.lattice(layer.weight) is not None and smoothed.lattice(layer.weight) is None
    ]
    return (
        [
            f"{len(lost)} layers ({lost[0]} …) are stored as integers, but smoothed weights are none any more: leave smooth out of the plan to keep them"
        ]
        if lost
        else []
    )


def with_kept(source: Checkpoint, decoder: Decoder, plan: Plan, precisions: Mapping[str, str]) -> tuple[Checkpoint, Decision]:
    """``source`` with the scales of the integers that it keeps under a plan; as it is where there are none."""
    decision = decide(source, decoder, plan, precisions)
    return (KeptCheckpoint(source, decision) if decision.kept else source), decision
