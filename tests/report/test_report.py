"""`firsttoken report` as a user meets it: the page, the comparison, one-line errors, no page half written."""

import subprocess
import sys

import pytest
from generated_measurements import host_measurement, make_bundle, make_measurement, make_result, make_run, phone_measurement

from firsttoken.cli import run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, measurement in (
        ("old", host_measurement(repeat=5)),
        ("new", host_measurement(seed=4, faster=1.2, repeat=5)),
        ("phone", phone_measurement()),
    ):
        measurement.write(tmp_path / f"{name}.measurement.json")
    make_measurement([make_result()]).write(tmp_path / "empty.json")
    (tmp_path / "foreign.json").write_text('{"model": "llama", "avg_ts": 12.5}')
    return tmp_path


def test_a_page_of_several_files(folder, capsys):
    assert run(["report", "old.measurement.json", "phone.measurement.json", "-o", "page.html"]) == 0
    assert "page.html: written" in capsys.readouterr().out
    page = (folder / "page.html").read_text()
    assert "samsung SM-S928B" in page and "AMD EPYC 9B14" in page and "Against the baseline" not in page


def test_without_a_name_it_is_report_html(folder):
    assert run(["report", "old.measurement.json"]) == 0 and (folder / "report.html").is_file()


def test_against_a_baseline_which_is_not_shown_beside_itself(folder, capsys):
    assert run(["report", "old.measurement.json", "new.measurement.json", "--baseline", "old.measurement.json"]) == 0
    assert "note: old.measurement.json is the baseline" in capsys.readouterr().err
    page = (folder / "report.html").read_text()
    assert "Against the baseline" in page and "5 bundles on" in page


def test_the_same_page_every_time(folder):
    for name in ("a.html", "b.html"):
        assert run(["report", "new.measurement.json", "-b", "old.measurement.json", "-o", name]) == 0
    assert (folder / "a.html").read_bytes() == (folder / "b.html").read_bytes()


def test_diff_says_what_is_faster_and_what_it_rests_on(folder, capsys):
    assert run(["report", "--diff", "old.measurement.json", "new.measurement.json"]) == 0
    out = capsys.readouterr().out
    warm = next(line for line in out.splitlines() if line.split()[:3] == ["TTFT", "512", "warm"])
    assert warm.endswith("faster") and "5 (5), 5 (5)" in warm and "1.1" in warm
    assert "proof of A: KLD 1.1e-03, same top 98.5%; of B: KLD 1.1e-03" in out and "no proof" in out and "proof failed" in out
    assert (
        "of 60 comparisons of equal bundles any would be called different in at most 5%" in out
        and "one `firsttoken bench`" in out
        and "NOT LIKE" not in out
    )
    assert not (folder / "report.html").exists()


def test_diff_with_a_page(folder, capsys):
    assert run(["report", "--diff", "old.measurement.json", "new.measurement.json", "-o", "both.html"]) == 0
    assert "Against the baseline <small>old.measurement.json" in (folder / "both.html").read_text()


def test_diff_of_unlike_setups_says_so(folder, capsys):
    runs = [make_run(32, prefill=10**7 + number) for number in range(5)]
    for name, result in (
        ("a", make_result(make_bundle(), runs, threads=1)),
        ("b", make_result(make_bundle("int8", proof=None), runs[:3], runtime_version="9")),
    ):
        make_measurement([result]).write(folder / f"{name}.json")
    assert run(["report", "--diff", "a.json", "b.json"]) == 0
    out = capsys.readouterr().out
    assert "not like for like: plan: fp16-attention against int8; runtime: ai-edge-litert 2.3.0 against 9; threads: 1 against 2" in out
    assert "NOT LIKE FOR LIKE" in out and "too few processes" in out and "comparisons of equal" not in out and "and 3 are needed" in out


def test_diff_steers_no_terminal(folder, capsys):
    hostile = make_bundle("\x1b[2J\x1b]0;owned\x07", checkpoint="[bold red]x[/]\u202e")
    for name, seconds in (("a", 1), ("b", 2)):
        make_measurement([make_result(hostile, [make_run(prefill=seconds * 10**7)] * 5, runtime_version=f"\x1b[{name}")]).write(
            folder / f"{name}.json"
        )
    assert run(["report", "--diff", "a.json", "b.json"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\x07" not in out and "\u202e" not in out and "[bold red]x[/]" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no measurement file; make one with `firsttoken bench"),
        (("missing.json",), "missing.json: missing; expected a file that `firsttoken bench -o`"),
        (("foreign.json",), "foreign.json: not a measurement"),
        (("old.measurement.json", "foreign.json"), "foreign.json: not a measurement"),
        (("empty.json",), "no runs in empty.json"),
        ((".",), "cannot be read"),
        (("old.measurement.json", "-o", "old.measurement.json"), "is one of the measurement files"),
        (("old.measurement.json", "-o", "nowhere/page.html"), "folder nowhere does not exist"),
        (("old.measurement.json", "-o", "."), "is a folder"),
        (("old.measurement.json", "--baseline", "old.measurement.json"), "holds the same as the files to report"),
        (("old.measurement.json", "--baseline", "foreign.json"), "foreign.json: not a measurement"),
        (("--diff", "old.measurement.json"), "requires 2 arguments"),
        (("--diff", "old.measurement.json", "old.measurement.json"), "hold the same measurement"),
        (("--diff", "old.measurement.json", "phone.measurement.json"), "no bundle of old.measurement.json is in phone.measurement.json"),
        (("--diff", "old.measurement.json", "new.measurement.json", "phone.measurement.json"), "--diff takes its two files itself"),
        (("--diff", "old.measurement.json", "new.measurement.json", "-o", "new.measurement.json"), "is one of the measurement files"),
    ],
)
def test_errors_are_one_line_and_nothing_is_lost(folder, capsys, arguments, said):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert run(["report", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and error.startswith("error: ") and "\n" not in error
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_failed_write_keeps_the_older_page(folder, monkeypatch, capsys):
    (folder / "report.html").write_text("older page")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert run(["report", "old.measurement.json"]) == 2
    assert "No space left" in capsys.readouterr().err
    assert (
        (folder / "report.html").read_text() == "older page" and not list(folder.glob("*.partial")) and not list(folder.glob(".*.partial"))
    )


def test_nothing_heavy_is_imported_for_help_or_a_page(folder):
    code = (
        "import sys; from firsttoken.cli import run; code = run(['report', 'old.measurement.json']);"
        "print(code, [name for name in ('torch', 'ai_edge_litert', 'executorch', 'transformers', 'matplotlib') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    assert found.stdout.strip().endswith("0 []"), found


def test_the_examples_of_the_help_work_as_pasted(folder, capsys):
    (folder / "budget.toml").write_text("[[budget]]\nprompt_tokens = 128\nfirst_token_ms = 1000\n")
    for name in ("host", "old", "new", "phone"):
        host_measurement(seed=len(name) + ord(name[0]), repeat=2).write(folder / f"{name}.measurement.json")
    assert run(["report", "--help"]) == 0
    examples = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip().startswith("firsttoken report")]
    assert len(examples) == 4
    for example in examples:
        assert run(example.split()[1:]) == 0, example
