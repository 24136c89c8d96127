"""Times of bundles that took turns."""

import pytest

from firsttoken.search.costs import middle, side_by_side


def test_a_slow_while_slows_both_and_changes_no_ratio():
    other = [(100.0, 10.0), (100.0, 10.0), (300.0, 40.0), (310.0, 41.0), (100.0, 10.0)]
    one = [(110.0, 10.5), (112.0, 10.4), (330.0, 42.0), (341.0, 43.0), (109.0, 10.5)]
    (first_token, decode), base = side_by_side(one, other)
    assert base == (100.0, 10.0)
    assert first_token == pytest.approx(110.0)
    assert decode == pytest.approx(10.5)


def test_a_disturbance_of_one_alone_is_outvoted():
    other = [(100.0, 10.0)] * 5
    one = [(110.0, 11.0), (110.0, 11.0), (500.0, 70.0), (110.0, 11.0), (110.0, 11.0)]
    assert side_by_side(one, other)[0] == pytest.approx((110.0, 11.0))


def test_the_middle_of_an_even_number_of_rounds():
    assert middle([(1.0, 4.0), (3.0, 8.0)]) == (2.0, 6.0)
