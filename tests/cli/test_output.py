"""``--json``: one document on standard output and nothing else, with the names of manifest and measurement; the rest on standard error."""

import io
import json
import shutil

import pytest

from firsttoken import cli
from firsttoken.bundle.manifest import parse_manifest
from firsttoken.cli.output import Output
from firsttoken.demo import checkpoint_path
from firsttoken.measure.measurement import Measurement

HELD_OUT = checkpoint_path().parent / "held_out.txt"


@pytest.fixture
def told(capfd):
    """Runs a verb with ``--json``; returns the document and the lines on standard error. Descriptors are read: libraries write there too."""

    def run(*arguments, code: int = 0):
        assert cli.run([*map(str, arguments), "--json"]) == code, capfd.readouterr().err
        captured = capfd.readouterr()
        return json.loads(captured.out), captured.err.splitlines()

    return run


@pytest.fixture(scope="module")
def measured(demo_bundle, tmp_path_factory):
    """Two measurement files of one bundle."""
    files = [tmp_path_factory.mktemp("measured") / f"{name}.measurement.json" for name in "ab"]
    for file in files:
        assert (
            cli.run(["bench", str(demo_bundle("tflite-xnnpack")), "--prompts", "16", "--repeat", "2", "--processes", "1", "-o", str(file)])
            == 0
        )
    return files


def test_lists(told):
    plans, noise = told("plans")
    attention = next(plan for plan in plans["plans"] if plan["name"] == "fp16-attention")
    said = {"match": "layers.*.attention.*", "precision": "fp16", "method": "round", "group": None, "outliers": None, "range": None}
    assert attention["rule"][0] == said and noise == []
    targets, _ = told("targets")
    assert {"tflite-xnnpack", "executorch-xnnpack", "onnx-cpu"} <= {target["name"] for target in targets["targets"]}
    recipes, _ = told("distill", "recipes")
    assert {"demo-cut", "digits-cnn"} <= {recipe["name"] for recipe in recipes["recipes"]}
    checks, _ = told("doctor")
    assert {"python", "memory", "extra executorch"} <= {check["name"] for check in checks["checks"]}
    assert all(set(check) == {"state", "name", "found", "advice"} for check in checks["checks"])


def test_export_and_prove(told, tmp_path):
    exported, noise = told("export", checkpoint_path(), "-o", tmp_path / "out")
    [bundle] = exported["bundles"]
    assert "will take about" in noise[0] and 'with outliers = "apart"' in noise[1] and len(noise) == 2
    manifest = parse_manifest(json.dumps(bundle["manifest"]))
    assert manifest.need_proof().passed
    assert json.loads((tmp_path / "out/tflite-xnnpack/manifest.json").read_text()) == bundle["manifest"]
    proven, noise = told("prove", bundle["folder"], "-c", checkpoint_path())
    assert proven["passed"] and proven["misses"] == [] and noise == []
    [cpu] = bundle["manifest"]["artifacts"]
    assert proven["proof"] == cpu["proof"] and proven["audit"] == cpu["audit"]


def test_a_missed_proof_is_told_and_fails(told, demo_bundle, tmp_path):
    bundle = shutil.copytree(demo_bundle("tflite-xnnpack"), tmp_path / "strict")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["plan"]["gate"]["mean_kld"] = 1e-9
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    proven, noise = told("prove", bundle, "-c", checkpoint_path(), code=3)
    assert not proven["passed"] and "mean" in proven["misses"][0]
    assert len(noise) == 1 and noise[0].startswith("error: ") and "the proof failed" in noise[0]


def test_generate(told, demo_bundle, tmp_path):
    (tmp_path / "prompts.txt").write_text("def close\nclass Reader\n")
    options = ("--prompts", tmp_path / "prompts.txt", "--raw", "-n", 6, "--monitor", tmp_path / "use.jsonl")
    document, noise = told("generate", demo_bundle("tflite-xnnpack"), *options)
    assert [answer["prompt"] for answer in document["answers"]] == ["def close", "class Reader"]
    assert len(noise) == 2 and document["load"] > 0
    for answer in document["answers"]:
        assert answer["stages"]["prefill"] > 0 and answer["stopped"] in ("end", "length")
        assert (answer["decode"] is None) == (answer["new_tokens"] < 2)
    assert any(answer["text"] for answer in document["answers"])
    assert [json.loads(line) for line in (tmp_path / "use.jsonl").read_text().splitlines()]


def test_chat(told, capfd, demo_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("What does close do?\n\nAnd open?\n"))
    options = ("-n", 6, "--session", tmp_path / "chat.npz")
    document, noise = told("chat", demo_bundle("tflite-xnnpack"), "--system", "Be brief.", *options)
    assert [turn["question"] for turn in document["turns"]] == ["What does close do?", "And open?"] and document["dropped"] == 0
    assert document["turns"][0]["kept_tokens"] == 0 < document["turns"][1]["kept_tokens"]
    assert len(noise) == 2 and "prompt tokens computed" in noise[1]
    monkeypatch.setattr("sys.stdin", io.StringIO("Which first?\n"))
    more, noise = told("chat", demo_bundle("tflite-xnnpack"), *options)
    assert noise[0].startswith("[going on after 2 turns in ") and more["turns"][0]["kept_tokens"] > document["turns"][1]["prompt_tokens"]
    monkeypatch.setattr("sys.stdin", io.StringIO("Too late\n"))
    assert cli.run(["chat", str(demo_bundle("tflite-xnnpack")), "--system", "Be verbose.", *map(str, options)]) == 2
    assert "has begun already" in capfd.readouterr().err


def test_filters_that_leave_one_token_are_greedy(told, demo_bundle):
    bundle = demo_bundle("tflite-xnnpack")
    greedy, *filtered = (
        told("generate", bundle, "--prompt", "def close", "--raw", "-n", 6, *options)[0]["answers"][0]["text"]
        for options in ((), *(("--temperature", 5, name, value) for name, value in (("--top-k", 1), ("--top-p", 0.00001), ("--min-p", 1))))
    )
    assert filtered == [greedy] * 3


def test_drafts(told, demo_bundle):
    bundle = demo_bundle("tflite-xnnpack", 7)
    said = {}
    for options in ((), ("--draft", "lookup")):
        document, noise = told("generate", bundle, "--prompt", "def close(self):\n" * 3, "--raw", "-n", 24, *options)
        [answer] = document["answers"]
        said[options] = answer["text"]
        assert ("tokens per call" in noise[-1]) == ("drafts" in answer) == bool(options)
    assert len(set(said.values())) == 1
    assert answer["drafts"]["calls"] + answer["drafts"]["accepted_tokens"] >= answer["new_tokens"] - 1
    assert cli.run(["chat", str(demo_bundle("tflite-xnnpack")), "--draft", "lookup"]) == 2
    assert cli.run(["bench", str(demo_bundle("tflite-xnnpack")), "--draft", "lookup"]) == 2


def test_bench(told, demo_bundle, tmp_path):
    file = tmp_path / "m.measurement.json"
    document, noise = told("bench", demo_bundle("tflite-xnnpack"), "--prompts", "16", "--repeat", 2, "--processes", 1, "-o", file)
    assert len(Measurement.model_validate(document).results[0].runs) == 3
    assert document == json.loads(file.read_text()) and noise[0].startswith("every run: ")


def test_a_missed_budget_is_told_and_fails(told, demo_bundle, tmp_path):
    (tmp_path / "budget.toml").write_text("[[budget]]\nartifact_mib = 1\n")
    options = ("--prompts", "16", "--repeat", 1, "--processes", 1, "--budget", tmp_path / "budget.toml")
    document, noise = told("bench", demo_bundle("tflite-xnnpack"), *options, code=3)
    assert document["results"] and "1 of 1 limits" in noise[-1]


def test_report(told, measured, tmp_path):
    document, _ = told("report", measured[0], "-o", tmp_path / "report.html")
    assert document["page"] == {"file": str(tmp_path / "report.html"), "bytes": (tmp_path / "report.html").stat().st_size, "notes": []}
    compared, _ = told("report", "--diff", *measured)
    [pair] = compared["pairs"]
    assert pair["a"]["bundle"]["name"] == "tflite-xnnpack" and compared["only_a"] == compared["only_b"] == []
    first = next(each for each in pair["comparisons"] if each["figure"] == "first token")
    assert first["prompt_tokens"] == 16 and first["ratio"]["value"] > 0 and first["verdict"] == "cannot tell", "two runs are too few"
    assert "page" not in compared
    both, _ = told("report", "--diff", *measured, "-o", tmp_path / "diff.html")
    assert both["pairs"] == compared["pairs"] and both["page"]["file"] == str(tmp_path / "diff.html")


def test_evaluate(told, demo_bundle, tmp_path):
    options = ("-t", f"text={HELD_OUT}", "--text-tokens", 300, "-o", tmp_path / "scores.json")
    document, noise = told("evaluate", demo_bundle("tflite-xnnpack"), *options)
    [[score]] = document.values()
    assert score["measure"] == "perplexity" and 1 < score["value"] < 100 and noise == []
    assert document == json.loads((tmp_path / "scores.json").read_text())


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "absent"],
        ["prove", "absent", "-c", "absent"],
        ["generate", "absent", "--prompt", "x"],
        ["chat", "absent"],
        ["bench", "absent"],
        ["bench", "out/a", "--json", "host.measurement.json"],
        ["evaluate", "absent", "-t", "text=absent"],
        ["evaluate", "absent", "--json", "scores.json", "-t", "text=absent"],
        ["report", "absent.json"],
        ["report", "--diff", "absent.json", "other.json"],
        ["distill", "absent"],
        ["device", "profile", "absent", "--serial", "absent"],
    ],
)
def test_errors_are_one_line_and_no_document(capfd, arguments):
    assert cli.run(arguments if "--json" in arguments else [*arguments, "--json"]) == 2
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1


def test_what_json_cannot_say_is_null(capsys):
    Output(True).document({"value": float("nan"), "folder": checkpoint_path()})
    assert json.loads(capsys.readouterr().out) == {"value": None, "folder": str(checkpoint_path())}


@pytest.mark.slow
def test_demo(told, tmp_path):
    document, noise = told("demo", "-o", tmp_path / "demo")
    assert [bundle["manifest"]["target"]["name"] for bundle in document["bundles"]] == ["tflite-xnnpack", "executorch-xnnpack"]
    assert all(
        bundle["manifest"]["artifacts"][0]["proof"]["passed"] and bundle["cold"]["stages"]["prefill"] > 0 for bundle in document["bundles"]
    )
    assert any(document["bundles"][0]["text"].splitlines()[0] in line for line in noise), "the completion is shown as it comes"
