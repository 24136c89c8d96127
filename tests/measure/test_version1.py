"""A file of schema version 1, committed once and never to be regenerated: every later firsttoken reads it."""

from pathlib import Path

from firsttoken.measure.measurement import read_measurement
from firsttoken.measure.summary import groups, summarize_runs
from firsttoken.report.report import report

FILE = Path(__file__).with_name("version1.measurement.json")


def test_it_stays_readable():
    found = read_measurement(FILE)
    assert (found.device.model, found.device.soc, found.device.hexagon, found.device.cpu.clusters["2956800"]) == (
        "SM-S928B",
        "SM8650",
        "v75",
        5,
    )
    first, second = found.results
    assert (first.bundle.plan, first.bundle.proof.same_top, first.chat, first.threads) == ("fp16-attention", 0.985, True, 4)
    assert (first.before.temperatures["CPU0"], first.after.thermal_status, first.after.charging) == (31.0, 2, True)
    assert [run.state for run in first.runs] == ["warm-up", "cold", "warm", "cold", "warm"]
    assert first.runs[1].stages.load == 549389864 and first.runs[1].page_cache == "unknown" and first.runs[1].decode.tokens == 32
    assert (first.failures[0].stage, first.failures[1].prompt_tokens) == ("load", None)
    assert second.bundle.proof is None and second.after is None
    assert summarize_runs(groups(second)[8, "warm"]).first_token.median == 2_000_003


def test_it_still_makes_a_page(tmp_path):
    assert report([FILE], tmp_path / "page.html") == []
    assert "Qwen2.5-0.5B-Instruct" in (tmp_path / "page.html").read_text()
