"""The comparison: against plain resampling and scipy, its promise kept by simulation, honest with few runs."""

import math

import numpy
import pytest
from generated_measurements import make_result, make_run

from firsttoken.measure.compare import FEWEST_RUNS, bootstrap_medians, compare_results, compare_values


def different(draw, count: int, repeats=700, slow=(1.0, 1.0), ratio=1.0) -> float:
    """The share of repeats in which the interval misses the true ratio: with ratio 1, in which equal sides are called different."""
    random = numpy.random.default_rng(count)
    missed = 0
    for number in range(repeats):
        a, b = draw(random, count) * slow[0], draw(random, count) * slow[1] / ratio
        found = compare_values(a, b, larger_is_faster=False, seed=number, resamples=500)
        low, high = found.interval
        missed += not low <= ratio <= high
    return missed / repeats


DRAWS = {
    "normal": lambda random, count: random.normal(100, 3, count),
    "lognormal": lambda random, count: random.lognormal(0, 0.3, count),
    "hiccups": lambda random, count: random.normal(100, 1, count) + 30 * (random.random(count) < 0.1),
}


@pytest.mark.parametrize("count", [5, 10, 30])
@pytest.mark.parametrize("name", DRAWS)
def test_equal_sides_are_called_different_in_at_most_five_percent(name, count):
    share = different(DRAWS[name], count)
    assert 0.005 < share < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 700)  # neither too bold nor never daring a verdict


@pytest.mark.parametrize("ratio", [0.8, 1.25])
def test_the_true_ratio_lies_within(ratio):
    assert different(DRAWS["normal"], 10, ratio=ratio) < 0.075


def test_drift_while_taking_turns_only_widens():
    times = numpy.linspace(1, 1.3, 20)
    assert different(DRAWS["normal"], 10, slow=(times[0::2], times[1::2])) < 0.02


def test_drift_between_two_measurements_is_not_noticed():
    # what docs/report.md warns of: the runs of two files know nothing of what changed between them
    times = numpy.linspace(1, 1.3, 20)
    assert different(DRAWS["normal"], 10, slow=(times[:10], times[10:])) > 0.5


def test_a_real_difference_is_found():
    random = numpy.random.default_rng(0)
    verdicts = [
        compare_values(random.normal(100, 3, 5), random.normal(80, 3, 5), larger_is_faster=False, resamples=500).verdict for _ in range(200)
    ]
    assert verdicts.count("faster") > 190 and "slower" not in verdicts


@pytest.mark.parametrize("count", [1, 2, 4, 5, 6, 11])
def test_resampled_medians_are_distributed_as_by_plain_resampling(count):
    random = numpy.random.default_rng(count)
    values = random.permutation(numpy.arange(count, dtype=float) ** 2)
    plain = numpy.median(random.choice(values, (200_000, count)), axis=1)
    ours = bootstrap_medians(values, random, 200_000)
    levels = numpy.unique(plain)
    assert set(numpy.unique(ours)) <= set(levels) | set(numpy.add.outer(values, values).ravel() / 2)
    for level in levels:
        assert (ours <= level).mean() == pytest.approx((plain <= level).mean(), abs=0.008)


def test_interval_is_scipys():
    stats = pytest.importorskip(
        "scipy.stats", reason="scipy is not installed; install it to compare with its bootstrap: scripts/setup test"
    )
    random = numpy.random.default_rng(3)
    a, b = random.lognormal(0, 0.2, 40), random.lognormal(-0.1, 0.2, 33)
    ours = compare_values(a, b, larger_is_faster=False, resamples=100_000)
    theirs = stats.bootstrap(
        (a, b),
        lambda x, y, axis: numpy.median(x, axis) / numpy.median(y, axis),
        method="percentile",
        n_resamples=20_000,
        vectorized=True,
        rng=1,
    ).confidence_interval
    assert ours.interval == pytest.approx((theirs.low, theirs.high), rel=0.01)


def test_direction_of_both_figures():
    slow, fast = [100, 101, 102, 103, 104], [50, 51, 52, 53, 54]
    time, speed = compare_values(slow, fast, larger_is_faster=False), compare_values(slow, fast, larger_is_faster=True)
    assert time.value == pytest.approx(102 / 52) and time.verdict == "faster"
    assert speed.value == pytest.approx(52 / 102) and speed.verdict == "slower"


def test_same_values_same_interval_and_swapping_inverts_it():
    random = numpy.random.default_rng(5)
    a, b = list(random.normal(100, 5, 8)), list(random.normal(97, 5, 9))
    one, again, swapped = (compare_values(*sides, larger_is_faster=False) for sides in ((a, b), (a[::-1], b), (b, a)))
    assert one == again
    assert [1 / bound for bound in reversed(swapped.interval)] == pytest.approx(one.interval)


def test_a_side_against_itself_still_has_noise():
    values = [100.0, 103, 98, 110, 99, 101]
    found = compare_values(values, values, larger_is_faster=False)
    assert found.value == 1 and found.interval[0] < 0.99 and found.interval[1] > 1.01 and found.verdict == "cannot tell"


@pytest.mark.parametrize("count", range(1, FEWEST_RUNS))
def test_too_few_runs_cannot_tell(count):
    few, many = [make_run(prefill=10 * 10**6)] * count, [make_run(prefill=10**6 + n) for n in range(20)]
    for sides in ((few, many), (many, few)):
        [found] = compare_results(*(make_result(runs=runs) for runs in sides))
        assert found.ratio.verdict == "cannot tell" and found.ratio.interval is None
        assert f"{count} run" in found.reason and f"at least {FEWEST_RUNS}" in found.reason


def test_what_both_measured_is_compared():
    def runs(tokens, state, times, decode=(32, 10**9)):
        return [make_run(tokens, state, prefill=time * 10**6, decode=decode) for time in times]

    noisy = [100, 120, 90, 130, 95, 108]
    a = make_result(runs=runs(32, "warm", range(100, 106)) + runs(32, "cold", noisy) + runs(512, "warm", noisy, decode=None))
    b = make_result(
        runs=runs(32, "warm", range(50, 56)) + runs(32, "cold", noisy[::-1]) + runs(128, "warm", noisy) + runs(32, "warm-up", [1] * 9)
    )
    found = compare_results(a, b)
    assert [(c.prompt_tokens, c.state, c.figure) for c in found] == [
        (32, "cold", "first token"),
        (32, "warm", "first token"),
        (32, "cold", "decode"),
        (32, "warm", "decode"),
    ]
    assert found[0].reason == "cannot tell: 0.80 to 1.25× as fast"
    assert found[1].reason.startswith("faster: 1.8") and found[1].median_a == pytest.approx(102.5e6, rel=1e-4) and found[1].count_b == 6
    assert found[2].ratio.value == 1
    assert compare_results(a, make_result()) == []


def test_no_value_and_zero_are_refused_or_left_out():
    with pytest.raises(ValueError):
        compare_values([], [1.0], larger_is_faster=True)
    with pytest.raises(ValueError):
        compare_values([0.0], [1.0], larger_is_faster=False)
    nothing = make_result(runs=[make_run(tokenize=0, prefill=0, sample=0, detokenize=0)] * 5)
    assert compare_results(nothing, make_result(runs=[make_run()] * 5)) == []
