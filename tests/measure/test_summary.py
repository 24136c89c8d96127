"""Summaries against numpy on random values, and by hand."""

import numpy
import pytest
from generated_measurements import make_result, make_run

from firsttoken.measure.summary import STAGES, decode_speed, groups, middle_stages, summarize, summarize_runs


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9, 10, 11, 100, 333])
def test_figures_are_numpys(count):
    values = numpy.random.default_rng(count).lognormal(3, 2, count)
    found = summarize(values.tolist())
    assert found.count == count
    assert found.median == pytest.approx(numpy.median(values))
    assert (found.minimum, found.maximum) == (values.min(), values.max())
    assert found.p90 == pytest.approx(numpy.percentile(values, 90))
    assert found.mean == pytest.approx(values.mean())
    assert found.deviation == pytest.approx(values.std(ddof=1))


def test_by_hand():
    found = summarize([30, 10, None, 20, 50, 40])
    assert (found.count, found.median, found.minimum, found.maximum, found.mean) == (5, 30, 10, 50, 30)
    assert found.p90 == pytest.approx(0.4 * 40 + 0.6 * 50)  # position 0.9 * 4 = 3.6
    assert found.deviation == pytest.approx(250**0.5)  # (400 + 100 + 0 + 100 + 400) / 4


def test_p90_of_few_runs_says_what_it_is():
    assert summarize([7]).p90 == 7 and summarize([7]).deviation is None
    assert "one run" in summarize([7]).p90_note
    for count in range(2, 11):
        found = summarize(range(count))
        assert count - 2 <= found.p90 <= count - 1 and "two largest" in found.p90_note
    eleven = summarize(range(11))
    assert eleven.p90 == 9 and eleven.p90_note == ""  # exactly the second largest: from here on there is a tail


def test_nothing_to_summarize():
    assert summarize([]) is None and summarize([None, None]) is None
    assert middle_stages([]) == {}


def test_groups_are_sorted_and_leave_warm_up_out():
    result = make_result(
        runs=[make_run(128, "warm"), make_run(32, "warm"), make_run(32, "warm-up"), make_run(32, "cold"), make_run(32, "warm")]
    )
    found = groups(result)
    assert list(found) == [(32, "cold"), (32, "warm"), (128, "warm")]
    assert [len(runs) for runs in found.values()] == [1, 2, 1]
    assert groups(make_result(runs=[])) == {}


def test_runs_are_summarized_by_stage():
    runs = [
        make_run(32, "warm", prefill=p, tokenize=1, sample=2, detokenize=3, decode=(10, d), memory=m)
        for p, d, m in ((40, 5e9, 100), (20, 2e9, 300), (30, 4e9, None))
    ]
    found = summarize_runs(runs)
    assert found.first_token.median == 36 and found.first_token.minimum == 26
    assert list(found.stages) == ["tokenize", "prefill", "sample", "detokenize"]
    assert found.stages["prefill"].median == 30
    assert found.decode_speed.median == 2.5 and found.decode_speed.maximum == 5
    assert found.peak_memory.count == 2 and found.peak_memory.maximum == 300
    assert decode_speed(make_run(32, "warm", decode=None)) is None


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8])
def test_middle_stages_add_up_to_the_median(count):
    random = numpy.random.default_rng(count)
    runs = [make_run(32, "cold", **{stage: int(random.integers(1, 10**9)) for stage in STAGES}) for _ in range(count)]
    found = middle_stages(runs)
    assert list(found) == list(STAGES)
    assert sum(found.values()) == pytest.approx(numpy.median([run.stages.first_token for run in runs]))
