"""Ticks are round, lie where they say, and do not overlap; figures read as people write them."""

import itertools
import random

import pytest

from firsttoken.report.page.scale import CLOSEST_TICKS, axis_time_text, bytes_text, linear_axis, plain, ratio_axis, three_digits, time_text


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 137e6), (31.2, 46.8), (0, 1e-3), (1, 1.02), (5, 5), (0, 0), (-3, 4), (0, 1e18)])
def test_linear_axis(low, high):
    axis = linear_axis(low, high, plain)
    assert axis.low <= low and axis.high >= high and axis.high > axis.low
    assert 3 <= len(axis.ticks) <= 9
    for place, text in axis.ticks:
        assert axis.at(float(text)) == pytest.approx(place, abs=0.01)
    assert axis.at(axis.low - 1) == 0 and axis.at(axis.high * 2 + 1) == 100


def test_ratio_axis_holds_everything_and_its_ticks_do_not_overlap():
    draw = random.Random(1)
    for _ in range(300):
        values = [draw.lognormvariate(0, draw.choice((0.01, 0.2, 1))) for _ in range(draw.randrange(6))]
        axis = ratio_axis(values)
        assert axis.low < min([1, *values]) and axis.high > max([1, *values])
        assert any(text == "1×" for _, text in axis.ticks)
        places = [place for place, _ in axis.ticks]
        assert all(b - a >= CLOSEST_TICKS for a, b in itertools.pairwise(places))
        for place, text in axis.ticks:
            assert axis.at(float(text[:-1])) == pytest.approx(place, abs=0.01)
    assert ratio_axis([1e-9, 1e9]).high == pytest.approx(103) and ratio_axis([1e-9]).at(1e-9) == 0


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1234, "1.23 µs"),
        (840_000, "840 µs"),
        (999_900, "1.00 ms"),
        (13_249_000, "13.2 ms"),
        (1.07e9, "1.07 s"),
        (83.4e9, "83.4 s"),
        (None, "–"),
    ],
)
def test_times(nanoseconds, text):
    assert time_text(nanoseconds) == text


def test_other_units():
    assert [axis_time_text(n) for n in (0, 25e6, 1.5e9, 500e3)] == ["0", "25 ms", "1.5 s", "500 µs"]
    assert [bytes_text(n) for n in (None, 0, 1023, 1024, 5 << 20, 1023.9 * (1 << 20), 12 << 30)] == [
        "–",
        "0 B",
        "1023 B",
        "1.00 KiB",
        "5.00 MiB",
        "1.00 GiB",
        "12.0 GiB",
    ]
    assert [three_digits(v) for v in (0.123, 9.994, 9.996, 99.94, 99.96, 12345)] == ["0.12", "9.99", "10.0", "99.9", "100", "12345"]
