import csv
import io

from rich.console import Console

from firsttoken.measure.measurement import parse_measurement
from firsttoken.report.bench_table import csv_text, markdown_text, notes, rows, terminal_table


def measured(**more):
    bundle = {
        "name": "b|1", "checkpoint": "c", "fingerprint": "f", "plan": "int8", "target": "t", "runtime": "tflite", "delegate": "xnnpack",
        "artifact_sha256": "0" * 64, "artifact_bytes": 3 << 20, "cache_length": 64,
    }  # fmt: skip

    def run(state, prefill, **rest):
        stages = {"tokenize": 10**5, "prefill": prefill * 10**6, "sample": 10**5, "detokenize": 10**5} | (
            {"load": 5 * 10**6} if state != "warm" else {}
        )
        return {"prompt_tokens": 32, "state": state, "page_cache": "cached", "at_seconds": 1, "stages": stages} | rest

    runs = [
        run("warm-up", 900),
        *(run("warm", ms, peak_memory_bytes=50 << 20, decode={"tokens": 10, "nanoseconds": 10**8}) for ms in (30, 10, 20)),
        run("cold", 50, other_load=1.5),
    ]
    result = {"bundle": bundle, "runtime_version": "r 1", "threads": 2, "before": {"time": ""}, "runs": runs} | more
    device = {"kind": "host", "model": "m", "system": "s", "cpu": {"model": "CPU", "cores": 2}, "memory_bytes": 1000}
    return parse_measurement({"schema_version": 1, "writer": {"name": "w", "version": "1"}, "device": device, "results": [result]}, "x")


def test_a_row_per_prompt_and_state_without_warm_ups():
    cold, warm = rows(measured())
    assert warm[:10] == ("b|1", "int8", "3.0 MiB", "no proof", "32", "warm", "20.3", "10.3", "28.3", "")
    assert warm[11] == "20.0" and warm[-4:-2] == ("100.0", "50")
    assert cold[5] == "cold" and cold[9] == "5.0" and cold[-3:-1] == ("", "")


def test_stages_add_up_to_the_median():
    _, warm = rows(measured())
    assert abs(sum(float(cell) for cell in warm[9:15] if cell) - float(warm[6])) < 0.05


def test_columns_that_are_empty_everywhere_are_left_out():
    out = io.StringIO()
    Console(file=out, width=300).print(terminal_table(measured()))
    text = out.getvalue()
    assert "render" not in text and "load" in text


def test_markdown_keeps_its_columns():
    lines = markdown_text(measured()).splitlines()
    assert all(line.replace("\\|", "").count("|") == lines[0].count("|") for line in lines[:4]) and "b\\|1" in lines[2]


def test_csv_holds_every_run():
    read = list(csv.DictReader(io.StringIO(csv_text(measured()))))
    assert [row["state"] for row in read] == ["warm-up", "warm", "warm", "warm", "cold"]
    assert all(
        int(row["first_token_ns"])
        == sum(int(row[f"{s}_ns"] or 0) for s in ("load", "tokenize", "prefill", "sample", "detokenize", "render"))
        for row in read
    )


def test_the_notes_say_what_a_reader_must_know():
    text = "\n".join(notes(measured()))
    assert "without a chat template" in text and "1 or 3 runs" in text
    assert "could NOT be dropped" in text and "up to 1.5 cores were busy" in text and "without a proof" in text
    assert "missed its proof's gate" not in text


def test_the_artifact_that_ran_is_named_with_its_own_proof_and_size():
    proof = {"mean_kld": 2e-4, "p99_kld": 0.01, "same_top": 0.99, "passed": True}
    npu = measured(artifact={"kind": "npu", "sha256": "1" * 64, "bytes": 5 << 20, "soc": "SM8650", "proof": proof})
    assert rows(npu)[0][:4] == ("b|1 (NPU)", "int8", "5.0 MiB", "2.0e-04")
    assert {line["artifact"] for line in csv.DictReader(io.StringIO(csv_text(npu)))} == {"npu"} and "1" * 64 in csv_text(npu)
    assert not any("not on the NPU" in line for line in notes(npu))
    fallen = measured(artifact={"kind": "cpu", "sha256": "0" * 64, "bytes": 3 << 20, "fallback": "the DSP\x1b crashed"})
    assert rows(fallen)[0][0] == "b|1 (CPU)"
    [line] = [line for line in notes(fallen) if "not on the NPU" in line]
    assert line.startswith("b|1: ran on the CPU, not on the NPU: the DSP") and "\x1b" not in line


def test_why_the_native_runner_did_not_run_is_said():
    java = measured(runner={"kind": "java", "fallback": "no\x1b library"})
    [line] = [line for line in notes(java) if "native" in line]
    assert line.startswith("b|1: run by the Java runner, not the native one: no") and "\x1b" not in line
    assert not any("native" in line for line in notes(measured(runner={"kind": "native"})))


def test_turns_of_a_conversation_are_named_as_such():
    document = measured()
    document.results[0].runs[0].turn, document.results[0].runs[0].cached_tokens = 2, 20
    [line] = [note for note in notes(document) if "conversation" in note]
    assert line == "Turns of a conversation: 1 of the runs; 20 of their 32 prompt tokens were in the KV cache and not run again."
    assert not any("conversation" in note for note in notes(measured()))
