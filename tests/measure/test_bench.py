"""The bench on real bundles in real processes: order, counts, cold and warm, what dies is noted and the rest goes on."""

import json
import os
import signal
from dataclasses import replace

import pytest
from generated_measurements import make_run

from firsttoken import cli
from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.measure import bench as module
from firsttoken.measure.bench import Bench, BenchSettings, _names, _turned, bench, other_load
from firsttoken.measure.compare import compare_results
from firsttoken.measure.measurement import read_measurement
from firsttoken.measure.process import Process

SHORT = BenchSettings(prompts=(16, 40), repeat=2, threads=1, decode_tokens=4, processes=1)


@pytest.fixture(scope="module")
def measured(demo_bundle):
    """Both runtimes, warm and cold, once for the tests of this file."""
    return bench(
        [demo_bundle("tflite-xnnpack"), demo_bundle("executorch-xnnpack")],
        BenchSettings((16, 40), 2, 1, cold=True, decode_tokens=4, processes=1),
    )


def test_every_run_is_there_with_its_stages(measured):
    assert [result.bundle.runtime for result in measured.results] == ["tflite", "executorch"]
    for result in measured.results:
        assert not result.failures and result.threads == 1 and result.chat and result.after is not None
        kinds = [(run.state, run.prompt_tokens) for run in result.runs]
        assert kinds[0] == ("warm-up", 40) and sorted(kinds[1:]) == sorted([(s, p) for s in ("warm", "cold") for p in (16, 40)] * 2)
        for run in result.runs:
            stages = run.stages
            assert (stages.load is None) == (run.state == "warm") and stages.render is None
            assert min(stages.tokenize, stages.prefill, stages.sample, stages.detokenize) > 0
            assert run.decode.tokens == 4 and run.decode.nanoseconds > 0 and run.peak_memory_bytes > 10 << 20
            assert run.page_cache == "cached" if run.state == "warm" else run.page_cache in ("dropped", "cached", "unknown")
    assert measured.results[0].runtime_version.startswith("ai-edge-litert ")


def test_the_bundles_take_turns(measured):
    order = sorted(
        ((run.at_seconds, number) for number, result in enumerate(measured.results) for run in result.runs if run.state == "warm")
    )
    assert [number for _, number in order] == [0, 1, 0, 1, 1, 0, 1, 0], "round by round, each prompt on each bundle, the first one changing"


def test_processes_follow_each_other_and_every_run_says_its_own(demo_bundle):
    settings = BenchSettings(prompts=(16,), repeat=2, threads=1, decode_tokens=2, processes=3, cold=True)
    [result] = Bench([demo_bundle("tflite-xnnpack")], settings).run().results
    assert [(run.state, run.process) for run in result.runs if run.state != "cold"] == [
        (state, process) for process in (1, 2, 3) for state in ("warm-up", "warm", "warm")
    ]
    assert [run.process for run in result.runs if run.state == "cold"] == [4, 5, 6, 7, 8, 9]
    [warm] = [c for c in compare_results(result, result) if c.state == "warm" and c.figure == "first token"]
    assert (warm.count_a, warm.processes_a) == (6, 3) and warm.ratio.interval is not None


def test_it_goes_on_until_the_time_is_known_or_says_that_it_is_not(demo_bundle, monkeypatch):
    short = BenchSettings(prompts=(16,), repeat=1, threads=1, decode_tokens=0, processes=1)
    measuring = Bench([demo_bundle("tflite-xnnpack")], replace(short, until=0.9))
    [result] = measuring.run().results
    assert len({run.process for run in result.runs}) >= 3 and module.reach_of(result) <= 0.9 and measuring.done == measuring.total
    monkeypatch.setattr(module, "MOST_PROCESSES", 4)
    assert measuring.unreached == []
    measuring = Bench([demo_bundle("tflite-xnnpack")], replace(short, until=1e-6))
    [result] = measuring.run().results
    assert "after 4 processes, and 0.0% were asked" in measuring.unreached[0]
    assert {run.process for run in result.runs} == {1, 2, 3, 4} and module.reach_of(result) > 1e-6


def test_a_bundle_that_died_does_not_keep_the_others_at_it(demo_bundle, monkeypatch):
    measuring = Bench([demo_bundle("tflite-xnnpack"), demo_bundle("executorch-xnnpack")], replace(SHORT, until=0.5))
    alive, dead = measuring.results
    alive.runs = [make_run(t, prefill=10**7 + n, process=n) for t in SHORT.prompts for n in range(1, 5)]
    dead.runs, measuring.given_up = [make_run(16, state="warm-up", process=1)], {1}
    assert not measuring._goes_on(4) and "after 0 processes" in measuring.unreached[0]
    alive.runs = alive.runs[:2]
    assert measuring._goes_on(2)


def test_turns_of_a_conversation_are_runs_of_their_own(demo_bundle):
    settings = BenchSettings(prompts=(24,), repeat=2, threads=1, decode_tokens=6, turns=3, processes=1)
    [result] = Bench([demo_bundle("tflite-xnnpack")], settings).run().results
    warm_up, *warm = result.runs
    assert warm_up.turn is None and warm_up.cached_tokens is None and not result.failures
    assert [run.turn for run in warm] == [1, 2, 3] * 2
    for first, second, third in (warm[:3], warm[3:]):
        assert first.prompt_tokens == 24 and first.cached_tokens == 0
        assert 24 <= second.cached_tokens < second.prompt_tokens <= third.cached_tokens < third.prompt_tokens


def test_drafts_are_counted_and_refused_where_nothing_checks_them(demo_bundle):
    settings = BenchSettings(prompts=(48,), repeat=1, threads=1, decode_tokens=20, draft="lookup", processes=1)
    [result] = Bench([demo_bundle("tflite-xnnpack", 7)], settings).run().results
    assert result.draft == "lookup" and not result.failures
    for run in result.runs:
        assert run.drafts.calls + run.drafts.accepted_tokens == run.decode.tokens == 20
        assert run.drafts.accepted_tokens <= run.drafts.drafted_tokens
    with pytest.raises(FirstTokenError, match="no method that checks drafts; export it again with --draft-tokens 7"):
        Bench([demo_bundle("tflite-xnnpack")], settings)


def test_each_one_is_first_equally_often():
    assert [list(_turned([0, 1, 2], n)) for n in range(4)] == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]
    assert list(_turned([], 3)) == []


def test_other_load_is_told_only_of_runs_long_enough_for_the_kernels_ticks():
    assert other_load(1.5, 0.5, 2.0) == 0.5 and other_load(0.4, 0.5, 2.0) == 0.0
    assert other_load(0.02, 0.0, 0.01) is None


def test_names_are_as_long_as_it_takes(tmp_path):
    assert _names([tmp_path / "a/x", tmp_path / "b/x"]) == ["a/x", "b/x"]
    assert _names([tmp_path / "a/x", tmp_path / "b/y"]) == ["x", "y"]
    with pytest.raises(FirstTokenError, match="given twice"):
        _names([tmp_path / "x", tmp_path / "y/../x"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (BenchSettings(prompts=()), "no prompt lengths"),
        (BenchSettings(prompts=(8, 8)), "hold one twice"),
        (BenchSettings(prompts=(0,)), "prompts is 0"),
        (BenchSettings(repeat=0), "repeat is 0"),
        (BenchSettings(processes=0), "processes is 0"),
        (BenchSettings(until=3), "until is 3; expected a share"),
        (BenchSettings(decode_tokens=-1), "decode_tokens is -1"),
        (BenchSettings(prompts=(1270,)), "do not fit its cache of 1280"),
        (BenchSettings(prompts=(3,)), "take .*; ask for more or use --raw"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_run(demo_bundle, settings, said):
    with pytest.raises(FirstTokenError, match=said):
        Bench([demo_bundle("tflite-xnnpack")], settings)


def test_more_than_fits_into_memory(demo_bundle, monkeypatch):
    monkeypatch.setattr(module, "available_memory", lambda: 100 << 20)
    with pytest.raises(FirstTokenError, match="1 bundles loaded at once take about .* of memory, 100.0 MiB are available"):
        Bench([demo_bundle("tflite-xnnpack")], SHORT)
    with pytest.raises(FirstTokenError, match="no bundle"):
        Bench([], SHORT)


def test_a_process_that_dies_is_a_failure_and_the_rest_goes_on(demo_bundle, tmp_path, monkeypatch):
    """The second bundle's process is killed, from outside, after its second answer."""
    import shutil

    good = demo_bundle("tflite-xnnpack")
    bad = shutil.copytree(good, tmp_path / "bad")
    answers = {"count": 0}
    ask = Process.run

    def run(self, **job):
        if self.child.args[3] == str(bad):
            answers["count"] += 1
            if answers["count"] == 3:
                os.kill(self.child.pid, signal.SIGKILL)
        return ask(self, **job)

    monkeypatch.setattr(Process, "run", run)
    done = bench([good, bad], SHORT)
    assert not done.results[0].failures and len(done.results[0].runs) == 5
    [failure] = done.results[1].failures
    assert failure.stage == "process" and "SIGKILL, probably because memory ran out" in failure.message
    assert len(done.results[1].runs) == 2, "what was finished is kept"


def test_a_damaged_artifact_is_found_before_the_start(demo_bundle, tmp_path):
    import shutil

    bad = shutil.copytree(demo_bundle("tflite-xnnpack"), tmp_path / "bad")
    artifact = bad / read_manifest(bad).cpu.file
    artifact.write_bytes(artifact.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(FirstTokenError, match="SHA-256"):
        Bench([bad], SHORT)


def test_the_command_writes_table_file_and_verdict(demo_bundle, tmp_path, capsys):
    bundle, out = demo_bundle("tflite-xnnpack"), tmp_path / "m.measurement.json"
    budget = tmp_path / "budget.toml"
    budget.write_text("[[budget]]\nprompt_tokens = 16\nfirst_token_ms = 100000\nartifact_mib = 1\n")
    asked = ["bench", str(bundle), "--prompts", "16", "--repeat", "2", "--processes", "1", "--threads", "1", "--decode-tokens", "2"]
    assert cli.run([*asked, "-o", str(out), "--budget", str(budget)]) == 3
    captured = capsys.readouterr()
    assert "TTFT ms" in captured.out and "no proof" in captured.out and "2 runs" in captured.out
    assert "kept    tflite-xnnpack: first_token_ms at 16 tokens, warm" in captured.err
    assert "missed  tflite-xnnpack: artifact_mib: 4.5" in captured.err and "1 of 2 limits" in captured.err
    assert len(read_measurement(out).results[0].runs) == 3
    assert cli.run([*asked, "--md"]) == 0
    assert capsys.readouterr().out.startswith("| bundle | plan |")
    assert cli.run([*asked, "--csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all(line.count(",") == lines[0].count(",") for line in lines)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--csv", "--md"], "choose one form"),
        (["--until", "much"], "--until much: expected per cent"),
        (["--until", "0%"], "expected per cent of the time to first token, more than 0"),
        (["--prompts", "16;32"], "with commas between"),
        (["-o", "absent/m.json"], "does not exist"),
        (["--json", "host.measurement.json"], "a file is asked for with -o host.measurement.json"),
        (["--json", "--csv"], "choose one form"),
        (["--budget", "absent.toml"], "does not exist"),
        (["--turns", "2", "--raw"], "measure it without --turns"),
        (["--turns", "9", "--prompts", "128"], "128 prompt tokens and 32 decoded ones, 9 times, do not fit its cache of 1280"),
    ],
)
def test_bad_options_are_one_line(demo_bundle, capsys, more, said):
    assert cli.run(["bench", str(demo_bundle("tflite-xnnpack")), *more]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0]


def test_an_interrupted_bench_keeps_what_is_finished(demo_bundle, tmp_path):
    import subprocess
    import sys
    import time

    out = tmp_path / "m.json"
    command = [
        sys.executable,
        "-c",
        "from firsttoken.cli import main; main()",
        "bench",
        demo_bundle("tflite-xnnpack"),
        "--prompts",
        "16",
        "--repeat",
        "100000",
        "-o",
        out,
    ]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    time.sleep(8)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert "finished runs are in" in process.stderr.read()
    kept = json.loads(out.read_text())
    assert len(kept["results"][0]["runs"]) > 3 and "after" not in kept["results"][0]


@pytest.mark.slow
def test_a_file_stands_beside_the_bundle_it_was_taken_out_of(demo_bundle, own_litertlm):
    bundle = demo_bundle("litertlm-cpu")
    measured = bench(
        [bundle, own_litertlm], BenchSettings((16,), 2, 1, cold=True, decode_tokens=2, checkpoint=checkpoint_path(), processes=1)
    )
    ours, theirs = measured.results
    assert theirs.bundle.name == own_litertlm.name and theirs.bundle.plan == "stores fp16/int8" and theirs.proof is None
    assert theirs.ran_sha256 == ours.ran_sha256 and theirs.bundle.fingerprint == ours.bundle.fingerprint
    assert theirs.bundle.cache_length == ours.bundle.cache_length and theirs.chat and not theirs.failures
    kinds = [(run.state, run.prompt_tokens) for run in theirs.runs]
    assert kinds == [(run.state, run.prompt_tokens) for run in ours.runs] and [s for s, _ in kinds].count("cold") == 2
    assert all(run.decode.tokens == 2 for run in theirs.runs)
