"""Who is compared with whom, and where points and intervals lie."""

import pytest
from generated_measurements import host_measurement, make_bundle, make_measurement, make_result, make_run
from report_fixtures import device_of

from firsttoken.measure.pairing import match
from firsttoken.report.page.against import against_baseline, plan_against_plan, runtime_against_runtime
from firsttoken.report.page.sources import Source


def test_plans_of_one_target_and_targets_of_one_plan():
    device = device_of(host_measurement())
    plans, runtimes = plan_against_plan(device), runtime_against_runtime(device)
    assert [(duel.b, duel.a) for duel in plans.duels] == [
        ("int8 · tflite-xnnpack", "fp16-attention · tflite-xnnpack"),
        ("int4 · tflite-xnnpack", "fp16-attention · tflite-xnnpack"),
        ("int8 · executorch-xnnpack", "fp16-attention · executorch-xnnpack"),
    ]
    assert [duel.b for duel in runtimes.duels] == ["fp16-attention · executorch-xnnpack", "int8 · executorch-xnnpack"]
    assert plans.duels[1].proof_b.state == "failed" and plans.duels[2].proof_b.state == "none" and plans.duels[0].notes == []
    names = [whisker.name for whisker in plans.duels[0].whiskers]
    assert names[:2] == ["TTFT, 32 cold", "TTFT, 32 warm"] and "decode, 32 warm" in names and "decode, 32 cold" not in names
    assert plans.comparisons == 27
    for duel in plans.duels:
        for whisker in duel.whiskers:
            assert whisker.low <= whisker.at <= whisker.high and whisker.verdict == "faster" and whisker.value.endswith("×, faster")
    *slower, last = [whisker.value for whisker in runtimes.duels[0].whiskers]
    assert all(value.endswith("×, slower") for value in slower) and last == "0.95×", "a hiccup in one process hides 5 %"


def test_nothing_to_compare():
    assert plan_against_plan(device_of(make_measurement())) is None and runtime_against_runtime(device_of(make_measurement())) is None
    results = [make_result(make_bundle("int8"), [make_run(32)]), make_result(make_bundle("fp16"), [make_run(64)])]
    assert plan_against_plan(device_of(make_measurement(results))) is None


def test_too_few_processes_have_no_interval():
    results = [make_result(make_bundle(plan), [make_run(32, prefill=10**6)] * 3) for plan in ("int8", "fp16")]
    [duel] = plan_against_plan(device_of(make_measurement(results))).duels
    assert (
        duel.whiskers[0].low is None
        and duel.whiskers[0].words == "cannot tell, too few processes"
        and duel.whiskers[0].verdict == "cannot-tell"
    )


def test_other_threads_or_checkpoints_are_not_compared():
    runs = [make_run(32)] * 5
    results = [
        make_result(make_bundle("int8"), runs),
        make_result(make_bundle("fp16"), runs, threads=8),
        make_result(make_bundle("fp16", checkpoint="x"), runs),
    ]
    assert plan_against_plan(device_of(make_measurement(results))) is None


def test_baseline():
    old, new = (
        Source(name, None, host_measurement(seed=seed, faster=faster), name) for name, seed, faster in (("old", 0, 1.0), ("new", 3, 1.3))
    )
    new.measurement.results[0].threads = 8
    del old.measurement.results[1], new.measurement.results[2]
    arena, notes = against_baseline([new], old)
    assert [duel.b for duel in arena.duels] == [
        "fp16-attention · tflite-xnnpack (new)",
        "fp16-attention · executorch-xnnpack (new)",
        "int8 · executorch-xnnpack (new)",
    ]
    assert arena.duels[0].notes == ["Not like for like: threads: 2 against 8."] and arena.duels[1].notes == []
    assert notes == ["int8 · tflite-xnnpack (new): not in the baseline", "int4 · tflite-xnnpack: in the baseline, not in new"]
    warm = next(whisker for whisker in arena.duels[1].whiskers if whisker.name == "TTFT, 512 warm")
    assert float(warm.value.split("×")[0]) == pytest.approx(1.28, abs=0.04)


def test_baseline_without_anything_in_common():
    other = Source(
        "other",
        None,
        make_measurement([make_result(make_bundle("p", checkpoint="x"), [make_run()] * 5), make_result(make_bundle("q", checkpoint="x"))]),
        "x",
    )
    arena, notes = against_baseline([other], Source("base", None, host_measurement(repeat=1), "y"))
    assert arena is None and len(notes) == 7


def test_the_page_says_what_the_comparison_says():
    """What `match` has corrected for many comparisons is not corrected again."""

    def side(slower):
        times = [100.0, 100.6, 101.1, 99.5, 100.2]
        runs = [make_run(t, prefill=int(slower * ms * 1e6), process=n) for t in (8, 16, 32, 64) for n, ms in enumerate(times, 1)]
        return make_measurement([make_result(runs=runs)])

    old, new = side(1.0), side(1.0125)
    [pair] = match(old, new).pairs
    wanted = [comparison.ratio.verdict for comparison in pair.comparisons]
    arena, _ = against_baseline([Source("new", None, new, "new")], Source("old", None, old, "old"))
    assert wanted == ["slower"] * 4 and [whisker.verdict for whisker in arena.duels[0].whiskers] == wanted
    assert 0.02 < pair.comparisons[0].ratio.chance < 0.05, "so near that correcting twice would hide it"
