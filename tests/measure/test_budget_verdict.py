"""Limits against measurements: at their bounds, by the interval, against a baseline, and as JUnit's XML."""

from xml.etree import ElementTree

import pytest
from budget_fixtures import measurement

from firsttoken import cli
from firsttoken.errors import FirstTokenError
from firsttoken.measure.budget import Budget, Budgets
from firsttoken.measure.budget_verdict import LimitVerdict, check_budget, junit, tell


def verdicts(measured, baseline=None, **limits):
    return check_budget(Budgets(budget=(Budget(prompt_tokens=8, **limits),)), measured, baseline)


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({"first_token_ms": 50}, True),
        ({"first_token_ms": 49.9}, False),
        ({"first_token_p90_ms": 58}, True),
        ({"first_token_p90_ms": 57.9}, False),
        ({"decode_tokens_per_second": 10}, True),
        ({"decode_tokens_per_second": 10.1}, False),
        ({"peak_memory_mib": 100}, True),
        ({"peak_memory_mib": 99}, False),
        ({"artifact_mib": 1e-5}, True),
        ({"artifact_mib": 9e-6}, False),
        ({"mean_kld": 0.01}, True),
        ({"mean_kld": 0.009}, False),
        ({"same_top": 0.95}, True),
        ({"same_top": 0.951}, False),
    ],
)
def test_each_limit_holds_at_its_bound(limits, kept):
    [verdict] = verdicts(measurement(), **limits)
    assert verdict.kept is kept and verdict.line.startswith("kept" if kept else "missed")


def test_the_line_says_figure_and_limit():
    [verdict] = verdicts(measurement(), first_token_ms=45)
    assert verdict.line == "missed  b: first_token_ms at 8 tokens, warm: 50 (median of 3, 40 to 60), at most 45"


@pytest.mark.parametrize(("limit", "outcome"), [(60, "kept"), (51, "unclear"), (50, "unclear"), (40, "missed")])
def test_with_processes_the_interval_decides(limit, outcome):
    [verdict] = verdicts(measurement(times=(48, 50, 52, 49, 51), processes=True), first_token_ms=limit)
    assert verdict.outcome == outcome and verdict.kept is (outcome != "missed") and "known to lie from 48." in verdict.line
    assert (tell([verdict]) is not None) is (outcome == "unclear")


def test_cold_limits_are_of_cold_runs():
    cold = measurement(times=(400, 410, 420), state="cold", load=300, peak=200 << 20)
    cold.results[0].runs += measurement(times=(50,), peak=300 << 20).results[0].runs
    assert [v.outcome for v in verdicts(cold, state="cold", load_ms=301, peak_memory_mib=200)] == ["kept", "kept"]
    assert [v.outcome for v in verdicts(cold, state="cold", load_ms=290)] == ["missed"]
    assert [v.outcome for v in verdicts(cold, peak_memory_mib=299)] == ["missed"]


def test_relative_limits_are_against_the_baseline():
    before, slower = (measurement(times=times, processes=True) for times in ((50, 51, 52, 50), (60, 61, 62, 60)))
    [verdict] = verdicts(slower, before, first_token_times=1.05)
    assert verdict.outcome == "missed" and "1.19" in verdict.line and "times the baseline's" in verdict.line
    assert [v.outcome for v in verdicts(slower, before, first_token_times=1.3)] == ["kept"]
    assert [v.outcome for v in verdicts(slower, before, first_token_times=1.2)] == ["unclear"]
    assert [v.outcome for v in verdicts(before, slower, decode_times=0.9)] == ["kept"]
    with pytest.raises(FirstTokenError, match="give its file with --baseline"):
        verdicts(slower, first_token_times=1.05)


def test_a_baseline_of_something_else_is_none():
    slower, before = measurement(processes=True), measurement(processes=True)
    before.results[0].bundle.plan = "another"
    with pytest.raises(FirstTokenError, match="the baseline has no"):
        verdicts(slower, before, first_token_times=1.05)
    other_phone = measurement(processes=True)
    other_phone.results[0].threads = 16
    [verdict] = verdicts(slower, other_phone, first_token_times=9)
    assert verdict.kept and "NOT LIKE FOR LIKE: threads: 16 against" in verdict.line
    lacks = measurement(processes=True)
    for run in lacks.results[0].runs:
        run.prompt_tokens = 99
    with pytest.raises(FirstTokenError, match="the baseline has no run of b at 8 tokens, warm; measure it there too"):
        verdicts(slower, lacks, first_token_times=9)


def test_the_interval_is_of_the_processes_level():
    """Levels of 10, 10, 10, 10 and 30 ms: the median says nothing of the fifth."""
    [verdict] = verdicts(measurement(times=(10, 10, 10, 10, 30), processes=True), first_token_ms=12)
    assert verdict.outcome == "unclear" and "10 (median of 5, 10 to 30; known to lie from 6.7" in verdict.line


def test_names_of_bundles_write_no_lines():
    forged = measurement()
    forged.results[0].bundle.name = "b\n::error::injected\nkept    b: first_token_ms"
    assert all(verdict.line.count("\n") == 0 for verdict in verdicts(forged, first_token_ms=50, same_top=0.9))


def test_what_was_not_measured_is_missed():
    [verdict] = verdicts(measurement(times=()), first_token_ms=45)
    assert not verdict.kept and "not measured" in verdict.line


def test_other_work_is_noticed():
    assert [v.busy for v in verdicts(measurement(busy=0.9), first_token_ms=1, artifact_mib=1)] == [True, False]
    assert not verdicts(measurement(busy=0.1), first_token_ms=1)[0].busy


def test_junit_is_what_integrations_read():
    given = [
        LimitVerdict("kept", "kept    fine", "b", "first_token_ms", what="first_token_ms at 8 tokens, warm"),
        LimitVerdict("missed", 'missed  <"&>', "a\x1b[2J", "load_ms"),
        LimitVerdict("unclear", "unclear", "b", "same_top"),
    ]
    suite = ElementTree.fromstring(junit(given))
    assert suite.attrib == {"name": "firsttoken budget", "tests": "3", "failures": "1", "skipped": "1"}
    assert [(case.get("name"), [child.tag for child in case]) for case in suite] == [
        ("first_token_ms at 8 tokens, warm", []),
        ("load_ms", ["failure"]),
        ("same_top", ["skipped"]),
    ]
    assert suite[1][0].get("message") == 'missed  <"&>' and "\x1b" not in suite[1].get("classname")


def test_report_holds_files_against_a_budget(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    measurement(times=(60, 61, 62), processes=True).write(tmp_path / "new.json")
    measurement(times=(50, 51, 52), processes=True).write(tmp_path / "old.json")
    (tmp_path / "b.toml").write_text("[[budget]]\nprompt_tokens = 8\nfirst_token_times = 1.05\nsame_top = 0.9\n")
    asked = ["report", "new.json", "--baseline", "old.json", "--budget", "b.toml", "--junit", "v.xml"]
    assert cli.run(asked) == 3
    said = capsys.readouterr().err
    assert "missed  b: first_token_times" in said and "kept    b: same_top" in said and "1 of 2 limits of b.toml missed" in said
    assert ElementTree.parse(tmp_path / "v.xml").getroot().get("failures") == "1" and (tmp_path / "report.html").is_file()
    assert cli.run(["report", "new.json", "--budget", "b.toml"]) == 2 and "give its file with --baseline" in capsys.readouterr().err
    assert cli.run(["report", "new.json", "--junit", "v.xml"]) == 2 and "add --budget" in capsys.readouterr().err
    (tmp_path / "b.toml").write_text("[[budget]]\nbundle = 'x*'\nsame_top = 0.9\n")
    assert cli.run(["report", "new.json", "--budget", "b.toml"]) == 2 and "nothing was held against it" in capsys.readouterr().err
    (tmp_path / "report.html").unlink()
    (tmp_path / "b.toml").write_text("[[budget]]\nsame_top = 0.9\n[[budget]]\nbundle = 'c*'\nsame_top = 0.9\n")
    assert cli.run(["report", "new.json", "--budget", "b.toml"]) == 2 and "no bundle of the files is called 'c*'" in capsys.readouterr().err
    kept = (tmp_path / "new.json").read_bytes()
    assert (
        cli.run(["report", "new.json", "--budget", "b.toml", "--junit", "new.json"]) == 2 and "one of the files" in capsys.readouterr().err
    )
    assert not (tmp_path / "report.html").exists() and (tmp_path / "new.json").read_bytes() == kept
    (tmp_path / "b.toml").write_text("[[budget]]\nsame_top = 0.9\n")
    assert cli.run(["report", "new.json", "old.json", "--budget", "b.toml", "--junit", "v.xml"]) == 0
    said = capsys.readouterr().err
    assert "new.json: kept    b: same_top" in said and "old.json: kept    b: same_top" in said
    assert [case.get("classname") for case in ElementTree.parse(tmp_path / "v.xml").getroot()] == ["new.json: b", "old.json: b"]
