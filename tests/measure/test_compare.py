"""The comparison: against scipy's Welch test, its promise kept by simulation with a level for every process, honest with few of them."""

import math

import numpy
import pytest
from generated_measurements import make_result, make_run

from firsttoken.measure.compare import (
    FEWEST_PROCESSES,
    compare_results,
    compare_values,
    corrected,
    corrected_together,
    reach_of_level,
)

# Runs ``[processes, runs]`` of one side, 100 on average: what runs share within a process, and what they do not.
DRAWS = {
    "runs alone": lambda random, shape: random.normal(100, 3, shape),
    "a level per process": lambda random, shape: 100 * (1 + random.normal(0, 0.03, (shape[0], 1))) * (1 + random.normal(0, 0.01, shape)),
    "two levels": lambda random, shape: 100 * (1 + 0.1 * (random.random((shape[0], 1)) < 0.5)) * (1 + random.normal(0, 0.01, shape)),
    "lognormal": lambda random, shape: random.lognormal(0, 0.3, shape),
    "hiccups": lambda random, shape: random.normal(100, 1, shape) + 30 * (random.random(shape) < 0.1),
    "one after the other depends": lambda random, shape: 100 + numpy.cumsum(random.normal(0, 2, shape), axis=1),
}


def shares(draw, processes: int, runs=3, repeats=600, ratio=1.0) -> tuple[float, float]:
    """The shares of repeats in which the interval misses the true ratio, and in which the sides are called different."""
    random = numpy.random.default_rng(processes)
    missed = told = 0
    for _ in range(repeats):
        found = compare_values(
            draw(random, (processes, runs)).tolist(), (draw(random, (processes, runs)) / ratio).tolist(), larger_is_faster=False
        )
        missed += not found.interval[0] <= ratio <= found.interval[1]
        told += found.verdict != "cannot tell"
    return missed / repeats, told / repeats


@pytest.mark.parametrize("processes", [3, 5, 8])
@pytest.mark.parametrize("name", DRAWS)
def test_equal_sides_are_seldom_called_different(name, processes):
    """In at most 7 %: what is normal on a logarithmic scale in 5 %, what has two levels in somewhat more."""
    assert shares(DRAWS[name], processes)[1] < 0.07 + 2 * math.sqrt(0.07 * 0.93 / 600)


@pytest.mark.parametrize("name", ["runs alone", "a level per process", "hiccups", "one after the other depends"])
def test_a_tenth_is_found_at_the_default_number_of_processes(name):
    assert shares(DRAWS[name], 5, ratio=1.1)[1] >= 0.8


@pytest.mark.parametrize("ratio", [0.8, 1.25])
def test_the_true_ratio_lies_within(ratio):
    assert shares(DRAWS["a level per process"], 5, ratio=ratio)[0] < 0.07


def test_what_was_visible_is_found_in_four_of_five_cases():
    random, draw = numpy.random.default_rng(4), DRAWS["a level per process"]
    seen = [
        compare_values(draw(random, (5, 3)).tolist(), draw(random, (5, 3)).tolist(), larger_is_faster=False).visible for _ in range(300)
    ]
    assert 0.7 < shares(draw, 5, ratio=float(numpy.median(seen)))[1] < 0.92


def test_drift_between_two_measurements_is_not_noticed():
    # what docs/report.md warns of: the runs of two files know nothing of what changed between them
    times, random = numpy.linspace(1, 1.3, 10)[:, None], numpy.random.default_rng(0)
    told = 0
    for _ in range(100):
        a, b = (random.normal(100, 3, (5, 3)) * part for part in (times[:5], times[5:]))
        told += compare_values(a.tolist(), b.tolist(), larger_is_faster=False).verdict == "slower"
    assert told > 80


def test_interval_and_chance_are_scipys():
    stats = pytest.importorskip(
        "scipy.stats", reason="scipy is not installed; install it to compare with its Welch test: scripts/setup test"
    )
    random = numpy.random.default_rng(3)
    a, b = random.lognormal(0, 0.2, (9, 1)), random.lognormal(-0.2, 0.2, (8, 1))
    ours = compare_values(a.tolist(), b.tolist(), larger_is_faster=False)
    theirs = stats.ttest_ind(numpy.log(a[:, 0]), numpy.log(b[:, 0]), equal_var=False)
    low, high = theirs.confidence_interval()
    assert ours.chance == pytest.approx(theirs.pvalue, rel=0.05)  # ours has whole degrees of freedom
    assert ours.interval == pytest.approx((math.exp(low), math.exp(high)), rel=0.01)


def test_direction_of_both_figures():
    slow, fast = [[100], [101], [102]], [[50], [51], [52]]
    time, speed = compare_values(slow, fast, larger_is_faster=False), compare_values(slow, fast, larger_is_faster=True)
    assert time.value == pytest.approx(101 / 51, rel=1e-3) and time.verdict == "faster"
    assert speed.value == pytest.approx(51 / 101, rel=1e-3) and speed.verdict == "slower"


def test_same_values_same_interval_and_swapping_inverts_it():
    random = numpy.random.default_rng(5)
    a, b = random.normal(100, 5, (5, 3)).tolist(), random.normal(97, 5, (6, 2)).tolist()
    one, again, swapped = (compare_values(*sides, larger_is_faster=False) for sides in ((a, b), (a[::-1], b), (b, a)))
    assert one.interval == pytest.approx(again.interval)
    assert [1 / bound for bound in reversed(swapped.interval)] == pytest.approx(one.interval)


def test_processes_that_gave_the_same_are_told_by_any_difference():
    same, other = [[100.0, 100]] * 3, [[101.0, 101]] * 3
    assert compare_values(same, same, larger_is_faster=False).verdict == "cannot tell"
    assert compare_values(same, other, larger_is_faster=False).verdict == "slower"


@pytest.mark.parametrize("count", range(1, FEWEST_PROCESSES))
def test_too_few_processes_cannot_tell(count):
    few = [make_run(prefill=10 * 10**6, process=n) for n in range(1, count + 1)]
    many = [make_run(prefill=10**6 + n, process=n) for n in range(1, 20)]
    for sides in ((few, many), (many, few)):
        [found] = compare_results(*(make_result(runs=runs) for runs in sides))
        assert found.ratio.verdict == "cannot tell" and found.ratio.interval is None
        assert f"{count} process" in found.reason and f"at least {FEWEST_PROCESSES}" in found.reason


def test_warm_runs_that_do_not_say_their_process_are_of_one():
    old = make_result(runs=[make_run(prefill=10**7 + n) for n in range(20)])
    [found] = compare_results(old, make_result(runs=[make_run(prefill=10**6 + n, process=n) for n in range(1, 9)]))
    assert found.ratio.interval is None and found.ratio.value > 9 and (found.count_a, found.processes_a) == (20, 1)


def processes(tokens, state, times, decode=(32, 10**9)):
    return [make_run(tokens, state, prefill=time * 10**6, decode=decode, process=number) for number, time in enumerate(times, 1)]


def test_what_both_measured_is_compared():
    noisy = [100, 120, 90, 130, 95, 108]
    a = make_result(runs=processes(32, "warm", range(100, 106)) + processes(32, "cold", noisy) + processes(512, "warm", noisy, decode=None))
    b = make_result(
        runs=processes(32, "warm", range(50, 56))
        + processes(32, "cold", noisy[::-1])
        + processes(128, "warm", noisy)
        + processes(32, "warm-up", [1] * 9)
    )
    found = compare_results(a, b)
    assert [(c.prompt_tokens, c.state, c.figure) for c in found] == [
        (32, "cold", "first token"),
        (32, "warm", "first token"),
        (32, "cold", "decode"),
        (32, "warm", "decode"),
    ]
    assert found[0].reason.startswith("cannot tell: 0.8") and "with 6 processes a difference of" in found[0].reason
    assert found[1].reason.startswith("faster: 1.88") and found[1].median_a == pytest.approx(102.5e6, rel=1e-4) and found[1].count_b == 6
    assert found[2].ratio.value == 1
    assert compare_results(a, make_result()) == []


def test_many_comparisons_are_corrected_for():
    """Of 20 comparisons of equal sides one or more is called different in 60 % of the cases by itself, and in at most 5 % together."""
    random, alone, together = numpy.random.default_rng(1), 0, 0
    for _ in range(100):
        sides = [
            make_result(
                runs=[
                    make_run(tokens, prefill=int(random.normal(10**8, 3 * 10**6)), process=n)
                    for tokens in range(1, 21)
                    for n in range(1, 6)
                ]
            )
            for _ in range(2)
        ]
        found = compare_results(*sides)
        alone += any(c.ratio.verdict != "cannot tell" for c in found)
        together += any(c.ratio.verdict != "cannot tell" for c in corrected(found))
    assert alone > 35 and together <= 12


def test_what_is_left_of_a_small_chance_is_said():
    random = numpy.random.default_rng(2)
    a = make_result(runs=[make_run(t, prefill=int(random.normal(10**8, 10**6)), process=n) for t in range(1, 41) for n in range(1, 6)])
    b = make_result(
        runs=[
            make_run(t, prefill=int(random.normal(10**8, 10**6)) - 3_000_000 * (t == 7), process=n)
            for t in range(1, 41)
            for n in range(1, 6)
        ]
    )
    found = compare_results(a, b)
    place = next(n for n, c in enumerate(found) if c.prompt_tokens == 7)
    [first], [second, *_] = corrected_together([[found[place]], found])
    assert found[place].ratio.verdict == "faster" and first.ratio.among == 41
    assert first.ratio.verdict == "cannot tell" and "which one of 41 comparisons may give by chance" in first.reason
    assert second.prompt_tokens == 1


def test_how_well_a_level_is_known():
    stats = pytest.importorskip(
        "scipy.stats", reason="scipy is not installed; install it to compare with its t distribution: scripts/setup test"
    )
    levels = [100.0, 104, 98, 101]
    logs = numpy.log(levels)
    wanted = math.exp(stats.t.ppf(0.975, 3) * logs.std(ddof=1) / 2) - 1
    assert reach_of_level([[level] for level in levels]) == pytest.approx(wanted)
    assert reach_of_level([[100.0]] * 2) is None


def test_no_value_and_zero_are_refused_or_left_out():
    with pytest.raises(ValueError):
        compare_values([], [[1.0]], larger_is_faster=True)
    with pytest.raises(ValueError):
        compare_values([[]], [[1.0]], larger_is_faster=True)
    with pytest.raises(ValueError):
        compare_values([[0.0]], [[1.0]], larger_is_faster=False)
    nothing = make_result(runs=[make_run(tokenize=0, prefill=0, sample=0, detokenize=0)] * 5)
    assert compare_results(nothing, make_result(runs=[make_run()] * 5)) == []
