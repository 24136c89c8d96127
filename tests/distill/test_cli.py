"""``firsttoken distill``: what it teaches, the form without the word run, a run from a file, and errors on one line."""

import json
import shutil
import tomllib

import pytest

from firsttoken.cli import run

RECIPE = """
summary = "test"
[[teacher]]
checkpoint = "{teacher}"
[student.cut]
layers = 1
[data]
held_out = ["held_out.md"]
length = 32
held_out_windows = 4
[[data.train]]
files = ["part*.txt"]
[temperature]
start = 5
end = 1
[[loss]]
kind = "forward_kl"
[training]
steps = 2
batch = 2
"""


@pytest.fixture
def recipe_file(tmp_path, texts, tiny_model):
    for name in ("part0.txt", "held_out.md"):
        (tmp_path / name).write_text((texts / name).read_text(encoding="utf-8"), encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE.replace("{teacher}", str(tiny_model)), encoding="utf-8")
    assert tomllib.loads(path.read_text(encoding="utf-8"))
    return path


def test_help_teaches(capfd):
    assert run(["distill", "--help"]) == 0
    shown = capfd.readouterr().out
    assert "firsttoken distill demo-cut -o out/student" in shown and "cache" in shown and "recipes" in shown
    assert run(["distill", "run", "--help"]) == 0
    assert "--restart" in capfd.readouterr().out


def test_recipes_are_listed(capfd):
    assert run(["distill", "recipes"]) == 0
    assert "demo-cut" in capfd.readouterr().out


def test_a_recipe_file_is_run_and_its_paths_are_relative_to_it(recipe_file, tmp_path, capfd, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(["distill", str(recipe_file)]) == 0
    student = tmp_path / "elsewhere/out/mine"
    assert (student / "model.safetensors").exists() and "kind = &quot;forward_kl&quot;" in (student / "training.html").read_text(
        encoding="utf-8"
    )
    assert "curves in training.html" in capfd.readouterr().out
    assert run(["distill", str(recipe_file)]) == 2
    assert "exists; replace it with --force" in capfd.readouterr().err
    assert run(["distill", "--force", "--json", str(recipe_file)]) == 0  # options may come first
    told = capfd.readouterr()
    made = json.loads(told.out)
    assert made["student"] == str(student) and made["distillation"] == json.loads((student / "distillation.json").read_text())
    assert "curves in training.html" in told.err


def test_answers_are_kept_with_their_size(recipe_file, tmp_path, capfd):
    assert run(["distill", "cache", str(recipe_file), "-o", str(tmp_path / "answers"), "--top", "16"]) == 0
    assert "16 tokens each, 100 bytes a position" in capfd.readouterr().out
    assert run(["distill", "cache", str(recipe_file), "-o", str(tmp_path / "told"), "--top", "16", "--json"]) == 0
    facts = json.loads(capfd.readouterr().out)
    assert (facts["cache"], facts["k"], facts["bytes_per_position"]) == (str(tmp_path / "told"), 16, 100)
    assert run(["distill", "cache", str(recipe_file), "-o", str(tmp_path / "more"), "--teacher", "1"]) == 2
    assert "the recipe has 1 teachers" in capfd.readouterr().err


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["distill", "demo-cuts"], "recipe 'demo-cuts' is unknown (did you mean 'demo-cut'"),
        (["distill", "missing.toml"], "missing.toml: does not exist"),
        (["distill", "run"], "Missing argument 'RECIPE'"),
    ],
)
def test_errors_are_one_line(arguments, message, capfd):
    assert run(arguments) == 2
    error = capfd.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_selection_is_told_with_what_was_left_out(tmp_path, capfd):
    lines = [{"text": f"sample number {number} of the pool"} for number in (1, 2, 2, 3)]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(["distill", "select", str(tmp_path / "pool.jsonl"), "-o", str(tmp_path / "chosen.jsonl"), "--count", "2", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told == {"output": str(tmp_path / "chosen.jsonl"), "kept": 2, "left_out": {"copy of an earlier sample": 1, "not drawn": 1}}
    assert len((tmp_path / "chosen.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_chain_is_told_as_one_document(recipe_file, tmp_path, capfd):
    options = [
        "-o",
        str(tmp_path / "chain"),
        "-t",
        "tflite-xnnpack",
        "--plan",
        "fp32",
        "--prompts",
        "16",
        "--repeat",
        "1",
        "--text-tokens",
        "300",
    ]
    assert run(["distill", "chain", str(recipe_file), *options, "--json"]) == 0, capfd.readouterr().err
    told = json.loads(capfd.readouterr().out)
    assert told["student"] == str(tmp_path / "chain/student") and told["bundles"] == [str(tmp_path / "chain/bundles/tflite-xnnpack")]
    assert {score["measure"] for score in told["scores"]["student"]} >= {"perplexity"}
    assert told["measurement"] == json.loads((tmp_path / "chain/host.measurement.json").read_text())


def test_a_search_is_told_and_its_recipe_runs(recipe_file, tmp_path, capfd):
    shutil.copy(recipe_file.with_name("part0.txt"), recipe_file.with_name("part1.txt"))
    recipe_file.write_text(
        recipe_file.read_text(encoding="utf-8") + "[search]\nhalvings = 1\nfixed = ['temperature_end']\n", encoding="utf-8"
    )
    command = ["distill", "search", str(recipe_file), "-o", str(tmp_path / "found")]
    assert run([*command, "--range", "learning_rate=1e-5:1e-2", "--fix", "temperature_start", "--trials", "2", "--json"]) == 0
    told = capfd.readouterr()
    record = json.loads(told.out)["search"]
    assert record["space"].keys() == {"learning_rate"} and record["space"]["learning_rate"]["high"] == 1e-2 and len(record["trials"]) == 2
    assert "temperature_end: not searched, fixed" in told.err and "trial 1: cross_entropy" in told.err
    assert record == json.loads((tmp_path / "found/search.json").read_text())
    assert run(["distill", str(tmp_path / "found/best.toml"), "-o", str(tmp_path / "student")]) == 0
    assert (tmp_path / "student/model.safetensors").exists()


def test_search_help_teaches(capfd):
    assert run(["distill", "search", "--help"]) == 0
    shown = capfd.readouterr().out
    assert "firsttoken distill search demo-hidden -o out/search" in shown and "[search.ranges]" in shown and "--budget" in shown


@pytest.mark.parametrize(
    "options,message",
    [
        (["--range", "learning_rate=fast"], "--range 'learning_rate=fast'; expected NAME=LOW:HIGH with two numbers"),
        (["--range", "learning_rates=1:2"], "did you mean 'learning_rate'"),
        (["--budget", "100"], "a budget of 100 steps; expected at least 1200"),
        (["--score", "accuracy"], "search: score is 'accuracy'; input should be 'cross_entropy' or 'kld'"),
    ],
)
def test_search_errors_are_one_line(options, message, tmp_path, capfd):
    assert run(["distill", "search", "demo-cut", "-o", str(tmp_path / "out"), *options]) == 2
    error = capfd.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "out").exists()
