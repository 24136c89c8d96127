"""Where bars and dots lie: stages add up to the median, dots where the runs are, a hiccup does not squash the rest."""

from itertools import pairwise

import pytest
from generated_measurements import MILLISECOND, host_measurement, make_bundle, make_measurement, make_result, make_run
from report_fixtures import device_of, pixels, places

from firsttoken.measure.summary import first_token, groups, summarize
from firsttoken.report.page.bars import FAR_OUT, decode_panel, first_token_panels, memory_panel


def test_stages_add_up_to_the_median_and_dots_are_the_runs():
    measurement = host_measurement()
    panels = first_token_panels(device_of(measurement))
    assert [panel.title for panel in panels] == ["32 prompt tokens", "128 prompt tokens", "512 prompt tokens"]
    for tokens, panel in zip((32, 128, 512), panels, strict=True):
        assert [row.subject.result for row in panel.rows] == measurement.results
        for row in panel.rows:
            assert [line.name for line in row.lines] == ["cold", "warm"]
            for line in row.lines:
                times = [first_token(run) for run in groups(row.subject.result)[tokens, line.name]]
                assert [s.kind for s in line.segments] == ["load"] * (line.name == "cold") + ["tokenize", "prefill", "sample", "detokenize"]
                for one, following in pairwise(line.segments):
                    assert one.start + one.width == pytest.approx(following.start, abs=0.002)
                last = line.segments[-1]
                assert last.start + last.width == pytest.approx(panel.axis.at(summarize(times).median), abs=0.01)
                inside = [time for time in times if time <= panel.axis.high]
                assert set(places(line.dots)) == pixels(map(panel.axis.at, inside))
                assert f"n={len(times)}" in line.spread


def test_a_hiccup_is_counted_beside_the_axis():
    runs = [make_run(32, "warm", prefill=(10 + number) * MILLISECOND) for number in range(9)] + [
        make_run(32, "warm", prefill=900 * MILLISECOND)
    ]
    [panel] = first_token_panels(device_of(make_measurement([make_result(runs=runs)])))
    assert panel.axis.high <= FAR_OUT * 15 * MILLISECOND * 1.3
    [line] = panel.rows[0].lines
    assert len(places(line.dots)) == 9 and line.spread.endswith("1 beyond the axis, up to 900 ms")


def test_a_single_run_says_so():
    [panel] = first_token_panels(device_of(make_measurement()))
    assert panel.rows[0].lines[0].spread == "1 run"


def test_a_bundle_without_a_prompt_length_is_left_out_of_its_panel():
    results = [make_result(make_bundle("int8"), [make_run(32)]), make_result(make_bundle("fp16"), [make_run(32), make_run(128)])]
    panels = first_token_panels(device_of(make_measurement(results)))
    assert [[row.subject.result.bundle.plan for row in panel.rows] for panel in panels] == [["int8", "fp16"], ["fp16"]]


def test_runs_of_no_time_make_no_error():
    nothing = [make_run(tokenize=0, prefill=0, sample=0, detokenize=0)] * 2
    [panel] = first_token_panels(device_of(make_measurement([make_result(runs=nothing)])))
    assert all(segment.width == 0 for segment in panel.rows[0].lines[0].segments)


def test_decode_speed_takes_warm_runs_and_says_where_it_cannot():
    runs = [
        make_run(32, "cold", decode=(10, 10**9)),
        make_run(32, "warm", decode=(20, 10**9)),
        make_run(64, "cold", decode=(5, 10**9)),
        make_run(128),
    ]
    panel = decode_panel(device_of(make_measurement([make_result(runs=runs)])))
    assert [(line.name, line.value) for line in panel.rows[0].lines] == [("32", "20.0 tokens/s"), ("64 cold", "5.00 tokens/s")]
    assert decode_panel(device_of(make_measurement())) is None


def test_memory_is_the_highest_and_marks_the_artifact():
    runs = [make_run(memory=value << 20) for value in (10, 30, 20)] + [make_run(memory=None)]
    panel = memory_panel(device_of(make_measurement([make_result(make_bundle(size=15 << 20), runs)])))
    [line] = panel.rows[0].lines
    assert line.value == "30.0 MiB" and line.segments[0].width == panel.axis.at(30 << 20) and len(places(line.dots)) == 3
    assert line.marks == [(panel.axis.at(15 << 20), "artifact on disk: 15.0 MiB")]
    assert memory_panel(device_of(make_measurement())) is None
