"""Temperature, thermal status and slowing down over the run."""

from itertools import pairwise

import pytest
from generated_measurements import host_measurement, make_measurement, make_result, make_run, phone_measurement
from report_fixtures import device_of, pixels, places

from firsttoken.report.page.timeline import timelines


def test_a_phone_that_throttles():
    measurement = phone_measurement()
    [timeline] = timelines(device_of(measurement))
    runs = sorted((run for result in measurement.results for run in result.runs), key=lambda run: run.at_seconds)
    assert [band.status for band in timeline.bands] == [0, 1, 2] and timeline.bands[-1].name == "moderate"
    for one, following in pairwise(timeline.bands):
        assert one.start + one.width == pytest.approx(following.start, abs=0.01)
    first_moderate = next(run for run in runs if run.thermal_status == 2)
    assert timeline.bands[2].start == pytest.approx(timeline.axis.at(first_moderate.at_seconds), abs=0.01)
    assert set(places(timeline.temperature.dots["warm"])) == pixels(timeline.axis.at(run.at_seconds) for run in runs)
    assert len(runs) * 0.8 < timeline.temperature.curve.count("L") <= len(runs) - 1  # runs on the same pixel are one
    assert len(timeline.speed) == 3 and all("1." in strip.note for strip in timeline.speed)
    for strip, result in zip(timeline.speed, measurement.results, strict=True):
        for state, path in strip.dots.items():
            assert set(places(path)) == pixels(timeline.axis.at(run.at_seconds) for run in result.runs if run.state == state)


def test_height_is_the_ratio_to_the_fastest():
    runs = [make_run(32, "warm", prefill=10**7 * factor, at_seconds=number) for number, factor in enumerate((1, 2, 1, 9))]
    [timeline] = timelines(device_of(make_measurement([make_result(runs=runs)])))
    [strip] = timeline.speed
    heights = [float(part.split()[1].removesuffix("h0")) for part in strip.dots["warm"].split("M")[1:]]
    assert heights[0] == heights[2] > heights[1] > heights[3]  # pixels count downwards
    assert heights[0] == strip.lines[0][0] and strip.note.startswith("slowest run 9.00×")


def test_a_host_without_sensors():
    [timeline] = timelines(device_of(host_measurement(repeat=2)))
    assert timeline.temperature is None and timeline.bands == [] and len(timeline.speed) == 5


def test_long_runs_are_in_minutes():
    runs = [make_run(at_seconds=seconds) for seconds in (0, 3000)]
    [timeline] = timelines(device_of(make_measurement([make_result(runs=runs)])))
    assert timeline.axis.ticks[-1][1].endswith(" min") and timeline.axis.at(1500) == pytest.approx(50, abs=6)


def test_all_at_once_and_nothing():
    assert len(timelines(device_of(make_measurement([make_result(runs=[make_run()])])))) == 1
    assert timelines(device_of(make_measurement([make_result()]))) == []
    assert timelines(device_of(make_measurement([make_result(runs=[make_run(state="warm-up")])]))) == []
