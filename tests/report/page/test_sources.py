"""Reading the files of a report: everything malformed is one clear error, the same file twice is shown once."""

import json
import shutil

import pytest
from generated_measurements import host_measurement, make_measurement, make_result, make_run, phone_measurement

from firsttoken.errors import FirstTokenError
from firsttoken.report.page.sources import read_source, read_sources


@pytest.fixture
def file(tmp_path):
    made = make_measurement()
    made.results[0].runs[0].temperature = 40.0
    made.write(tmp_path / "a.json")
    return tmp_path / "a.json"


def changed(file, change):
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))
    return file


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("results", 0, "runs", 0, "temperature"), float("nan"), "results.0.runs.0.temperature is nan"),
        (("results", 0, "runs", 0, "at_seconds"), float("inf"), "at_seconds is inf"),
        (("results", 0, "runs", 0, "stages", "prefill"), 10**200, "stages.prefill is a number of more than 18 digits"),
        (("results", 0, "runs", 0, "stages", "prefill"), 10**400, "a number of 401 digits"),
        (("results", 0, "bundle", "proof", "mean_kld"), float("nan"), "mean_kld is nan"),
        (("results", 0, "before", "temperatures"), {"\x1b[31m": float("inf")}, r"temperatures.\x1b[31m is inf"),
        (("results", 0, "runs", 0, "stages", "prefill"), -1, "prefill"),
        (("results", 0, "runs", 0, "stages", "prefill"), "fast", "prefill"),
        (("results", 0, "runs"), "x", "results.0.runs"),
        (("results",), [], "at least one result"),
        (("schema_version",), 2, "schema version 2; this firsttoken reads up to 1, update it"),
        (("schema_version",), "1", "not a measurement"),
    ],
)
def test_what_nothing_can_have_measured_is_refused(file, place, value, said):
    def change(values):
        for key in place[:-1]:
            values = values[key]
        values[place[-1]] = value

    with pytest.raises(FirstTokenError) as error:
        read_sources([changed(file, change)])
    assert said in str(error.value) and str(file) in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"results": []}', '{"benchmark": "llama-bench", "t/s": 12}', "\x7fELF", "[" * 100_000]
)
def test_foreign_files_are_one_clear_error(tmp_path, text):
    (tmp_path / "foreign.json").write_text(text)
    with pytest.raises(FirstTokenError, match="foreign.json"):
        read_sources([tmp_path / "foreign.json"])


def test_one_bad_file_among_good_ones_is_named(file, tmp_path):
    (tmp_path / "newer.json").write_text(json.dumps({"schema_version": 9, "results": []}))
    with pytest.raises(FirstTokenError, match="newer.json.*version 9"):
        read_sources([file, tmp_path / "newer.json"])


def test_no_runs_at_all(tmp_path):
    make_measurement([make_result()]).write(tmp_path / "empty.json")
    with pytest.raises(FirstTokenError, match="no runs in .*empty.json; measure again"):
        read_sources([tmp_path / "empty.json"])


def test_the_same_file_twice_is_shown_once(file, tmp_path):
    shutil.copy(file, tmp_path / "copy.json")
    host_measurement(repeat=1).write(tmp_path / "other.json")
    sources, notes = read_sources([file, tmp_path / "copy.json", file, tmp_path / "other.json"])
    assert [source.name for source in sources] == ["a.json", "other.json"]
    assert len(notes) == 2 and "copy.json holds the same as" in notes[0]


def test_files_of_one_name_are_told_apart(tmp_path):
    for folder, made in (("x", host_measurement(repeat=1)), ("y", phone_measurement())):
        (tmp_path / folder).mkdir()
        made.write(tmp_path / folder / "m.json")
    sources, _ = read_sources([tmp_path / "x" / "m.json", tmp_path / "y" / "m.json"])
    assert [source.name for source in sources] == [str(tmp_path / "x" / "m.json"), str(tmp_path / "y" / "m.json")]


def test_more_results_than_a_page_can_show_are_refused(tmp_path):
    result = make_result(runs=[make_run()])
    path = tmp_path / "many.json"
    make_measurement([result] * 151).write(path)
    with pytest.raises(FirstTokenError, match="holds 151 results; expected 150 at most"):
        read_source(path)
    paths = [tmp_path / f"{number}.json" for number in range(2)]
    for number, each in enumerate(paths):
        make_measurement([result] * (75 + number)).write(each)
    with pytest.raises(FirstTokenError, match="151 results in all"):
        read_sources(paths)
