"""Schedules: their ends, shapes, what is refused, and which layer pairs are active."""

import math

import pytest
from pydantic import BaseModel, ValidationError

from firsttoken.distill.schedules import Schedule, Scheduled, active_pairs, constant


def test_temperature_five_to_one():
    linear, cosine = Schedule(start=5, end=1), Schedule(shape="cosine", start=5, end=1)
    assert [linear.at(p) for p in (0, 0.25, 0.5, 1)] == [5, 4, 3, 1]
    assert cosine.at(0) == 5 and cosine.at(1) == 1 and cosine.at(0.5) == pytest.approx(3)
    assert cosine.at(0.25) == pytest.approx(5 - 4 * (1 - math.cos(math.pi / 4)) / 2)
    assert linear.least == 1


def test_begin_and_finish():
    schedule = Schedule(start=0, end=1, begin=0.2, finish=0.6)
    assert [schedule.at(p) for p in (0, 0.2, 0.4, 0.6, 1)] == [0, 0, pytest.approx(0.5), 1, 1]
    switch = Schedule(start=0, end=1, begin=0.5, finish=0.5)
    assert (switch.at(0.4), switch.at(0.5)) == (0, 1)  # a switch


def test_a_plain_number_is_constant():
    class Recipe(BaseModel):
        weight: Scheduled

    assert Recipe(weight=0.7).weight == constant(0.7)
    assert Recipe(weight={"start": 1, "end": 0}).weight.at(1) == 0
    assert constant(3).at(0.3) == 3 == constant(3).least


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": -1},
        {"start": 1, "end": 0, "begin": 0.8, "finish": 0.2},
        {"start": 1, "ende": 0},
        {"shape": "constant", "start": 1, "end": 2},
        {"start": float("nan")},
    ],
)
def test_wrong_schedules_are_refused(wrong):
    with pytest.raises(ValidationError):
        Schedule(**wrong)


def test_lower_layers_first():
    assert [active_pairs(p, 4, 0.8) for p in (0, 0.19, 0.2, 0.41, 0.79, 0.8, 1)] == [1, 1, 2, 3, 4, 4, 4]
    assert active_pairs(0, 4, 0) == 4
