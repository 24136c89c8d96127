"""Conditions as they were read, and every caution when, and only when, it is due."""

import pytest
from generated_measurements import MILLISECOND, make_bundle, make_conditions, make_measurement, make_result, make_run, phone_measurement
from report_fixtures import device_of

from firsttoken.measure.measurement import Failure, ProofFigures
from firsttoken.report.page.conditions import cautions, conditions_rows


def said(result) -> str:
    return " ".join(text for text, _ in cautions(device_of(make_measurement([result]))))


def steady(count=9, **more):
    return [
        make_run(32, "warm", prefill=10 * MILLISECOND + number, at_seconds=number, process=number + 1, **more) for number in range(count)
    ]


def test_a_clean_measurement_has_none():
    assert said(make_result(runs=steady())) == ""


@pytest.mark.parametrize(
    ("result", "caution"),
    [
        (make_result(make_bundle(proof=None), steady()), "No proof"),
        (make_result(make_bundle(proof=ProofFigures(mean_kld=1, p99_kld=2, same_top=0.1, passed=False)), steady()), "The proof failed"),
        (make_result(runs=steady(), after=None), "cut off"),
        (make_result(runs=steady(), failures=[Failure(stage="load", message="x")] * 2), "2 runs failed"),
        (make_result(runs=steady(2)), "Fewer than 3 processes"),
        (make_result(), "No runs"),
        (make_result(runs=steady(thermal_status=3)), "thermal status 3 (severe)"),
        (make_result(runs=[*steady(temperature=30), make_run(32, temperature=40, prefill=10 * MILLISECOND, at_seconds=20)]), "warmer"),
        (
            make_result(
                runs=[make_run(32, prefill=(10 + number // 3) * MILLISECOND, at_seconds=number, process=number + 1) for number in range(9)]
            ),
            "slowed down",
        ),
        (make_result(runs=steady(other_load=1.5)), "Other processes"),
        (make_result(runs=steady() + [make_run(32, "cold", page_cache="cached")] * 5), "from memory, not from storage"),
        (make_result(runs=steady() + [make_run(32, "cold", page_cache="unknown")] * 5), "is unknown"),
        (make_result(runs=steady(), before=make_conditions(battery_percent=12)), "battery"),
    ],
)
def test_cautions(result, caution):
    [(found, names)] = cautions(device_of(make_measurement([result])))
    assert caution in found and len(names) == 1


def test_cautions_name_their_bundles():
    found = dict(cautions(device_of(phone_measurement())))
    hot = next(names for text, names in found.items() if "thermal status 2" in text)
    assert len(hot) == 3


def test_conditions_before_and_after():
    rows = {what: (before, after) for what, before, after in conditions_rows(phone_measurement().results[0])}
    assert rows["thermal status"] == ("0 none", "2 moderate") and rows["temperature CPU0"] == ("31 °C", "46.4 °C")
    assert rows["battery"] == ("91 %", "88 %") and rows["charging"] == ("yes", "yes") and rows["governor"] == ("schedutil", "schedutil")
    assert rows["available memory"] == ("5.00 GiB", "4.00 GiB")


def test_what_was_not_read_is_not_shown_and_the_unfinished_is_said():
    assert [row[0] for row in conditions_rows(make_result())] == ["time"]
    assert conditions_rows(make_result(after=None, before=make_conditions(charging=False)))[1] == ("charging", "no", "not finished")
    assert ("battery", "not read", "40 %") in conditions_rows(make_result(after=make_conditions(battery_percent=40)))
