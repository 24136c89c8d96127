"""Numbers that change over training: temperature, loss weights, and which layers are compared.

A schedule is a number, or a table ``{shape, start, end, begin, finish}`` in a recipe. ``progress`` runs from 0 (first
step) to 1 (last step) of the whole training, whatever its number of steps.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Shape = Literal["constant", "linear", "cosine"]


class Schedule(BaseModel):
    """``start`` until ``begin``, then towards ``end`` in the given shape, ``end`` from ``finish`` on."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    shape: Shape = "linear"
    start: float = Field(ge=0)
    end: float | None = Field(default=None, ge=0)  # None: stays at start
    begin: float = Field(default=0.0, ge=0, le=1)
    finish: float = Field(default=1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.begin > self.finish:
            raise ValueError(f"begin {self.begin} lies after finish {self.finish}; expected shares of the training in order")
        if self.shape == "constant" and self.end not in (None, self.start):
            raise ValueError(
                f"a constant schedule cannot go from {self.start} to {self.end}; use shape 'linear' or 'cosine', or leave end out"
            )
        return self

    def at(self, progress: float) -> float:
        """The value at ``progress`` in 0..1. Cosine is half a period: slow, fast, slow (SGDR's shape, arXiv:1608.03983)."""
        if self.end is None or self.shape == "constant":
            return self.start
        if progress >= self.finish:  # before the next line: begin and finish may be the same moment
            return self.end
        if progress <= self.begin:
            return self.start
        share = (progress - self.begin) / (self.finish - self.begin)
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return self.start + (self.end - self.start) * share

    @property
    def least(self) -> float:
        """The smallest value it takes."""
        return min(self.start, self.start if self.end is None else self.end)


def as_schedule(value: object) -> object:
    """A plain number is a constant schedule."""
    return {"shape": "constant", "start": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


# For fields of a recipe: a number or a table.
Scheduled = Annotated[Schedule, BeforeValidator(as_schedule)]


def constant(value: float) -> Schedule:
    """A schedule that stays at ``value``."""
    return Schedule(shape="constant", start=value)


def active_pairs(progress: float, count: int, span: float) -> int:
    """How many of ``count`` layer pairs are compared at ``progress``, lowest first.

    The first from the start, one more after every ``span / count`` of the training, all from ``span`` on; ``span`` 0
    compares all at once. Upper layers are then taught once the ones below them have settled (progressive distillation
    as in progressive layer-wise training, Romero et al., arXiv:1412.6550).
    """
    if span <= 0 or progress >= span:
        return count
    return min(count, 1 + int(progress / span * count))
