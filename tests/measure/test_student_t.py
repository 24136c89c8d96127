"""Student's t, against scipy's."""

import pytest

from firsttoken.measure.student_t import quantile, within

stats = pytest.importorskip(
    "scipy.stats", reason="scipy is not installed; install it to compare with its t distribution: scripts/setup test"
)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 8, 31, 200])
def test_it_is_scipys(freedom):
    for t in (0.0, 0.1, 1, 2.5, 12, -2.5):
        assert within(t, freedom) == pytest.approx(1 - 2 * stats.t.sf(abs(t), freedom), abs=1e-12)
    for probability in (0.5, 0.8, 0.975, 0.9999):
        assert quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-9, abs=1e-9)
