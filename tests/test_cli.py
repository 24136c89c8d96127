"""The command line as a user meets it: fast help, one-line errors, examples that work as pasted, quiet libraries."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firsttoken import cli
from firsttoken.checkpoint import Checkpoint
from firsttoken.demo import checkpoint_path
from firsttoken.pipeline import export

COMMAND = [sys.executable, "-c", "from firsttoken.cli import main; main()"]
VERBS = ("demo", "get", "export", "prove", "generate", "chat", "bench", "report", "plans", "targets", "doctor")


def run(*arguments, **more):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, **more)


def test_help_answers_in_under_half_a_second():
    took = []
    for _ in range(5):  # the fastest of some: the machine may be busy
        started = time.perf_counter()
        done = run("--help")
        took.append(time.perf_counter() - started)
    assert done.returncode == 0 and all(verb in done.stdout for verb in VERBS)
    assert min(took) < 0.5


def test_help_imports_nothing_heavy():
    program = "import sys; from firsttoken import cli; cli.run(['export', '--help']); print([m for m in ('torch', 'numpy', 'rich', 'tokenizers', 'jinja2') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.splitlines()[-1] == "[]"


def test_version(capsys):
    assert cli.run(["--version"]) == 0
    assert re.fullmatch(r"firsttoken \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["export"], "Missing argument"),
        (["export", "x", "--paln", "int8"], "--paln"),
        (["generate", "x"], "--prompt"),
        (["generate", "x", "--prompt", "y", "--prompts", "z"], "together"),
        (["chat", "x", "--when-full", "explode"], "--when-full"),
        (["bench", "x", "--repeat", "0"], "repeat"),
        (["generate", "x", "--prompt", "y", "--max-tokens", "none"], "--max-tokens"),
        (["generate", "x", "--prompt", "y", "--threads", "0"], "threads"),
        (["plan", "search", "x", "--max-first-token", "1.1x"], "'1.1x' should be a valid number"),
        (["export", "x", "--cache-length=1x"], "'1x' should be a valid integer"),
        (["plan", "search", "x", "--max-decode", "0"], "'0' should be greater than or equal to 0.01"),
    ],
)
def test_usage_errors_are_one_line(capsys, arguments, said):
    assert cli.run(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and said in lines[0] and "--help" in lines[0]


def test_faults_of_ours_are_one_line_and_a_traceback_with_v(capsys, monkeypatch):
    from firsttoken import quiet
    from firsttoken.quant import plan

    def fail():
        raise RuntimeError("something\nbroke")

    monkeypatch.setattr(plan, "plan_names", fail)
    assert cli.run(["plans"]) == 1
    assert capsys.readouterr().err == "error: RuntimeError: something broke (this is a fault in firsttoken or a library; -v shows where)\n"
    try:
        assert cli.run(["plans", "-v"]) == 1
    finally:
        quiet.set_verbose(False)
    assert "Traceback" in capsys.readouterr().err


def test_plans_and_targets_and_doctor(capsys):
    for verb, said in (
        ("plans", ["fp16-attention", "Attention in FP16", "layers.*.attention.* fp16"]),
        ("targets", ["tflite-compat", "executorch 1.5 or newer", "1280"]),
        ("doctor", ["ai-edge-litert", "memory", "adb"]),
    ):
        assert cli.run([verb]) == 0
        out = capsys.readouterr().out
        assert all(text in out for text in said), out


def examples(verb: str) -> list[str]:
    text = run(verb, "--help").stdout
    return [line.strip() for line in text.splitlines() if line.strip().startswith("firsttoken ")]


def write_adapter(folder: Path) -> None:
    """A LoRA adapter of the demo's checkpoint."""
    import numpy as np
    from safetensors.numpy import save_file

    with Checkpoint(checkpoint_path()) as base:
        rows, columns = base.stored("model.layers.0.mlp.up_proj.weight").shape
    name, drawn = "base_model.model.model.layers.0.mlp.up_proj", np.random.default_rng(0)
    a, b = (drawn.standard_normal(shape).astype(np.float32) * 0.01 for shape in ((4, columns), (rows, 4)))
    save_file({f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 8}')


def write_reasoner(folder: Path) -> None:
    """The demo's checkpoint with a token of its own for the end of thinking, in the place of the last word that its tokenizer learned."""
    shutil.copytree(checkpoint_path(), folder)
    said = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    words, merges = said["model"]["vocab"], said["model"]["merges"]
    last = max(words, key=words.get)
    number = words.pop(last)
    merges[:] = [merge for merge in merges if "".join(merge if isinstance(merge, list) else merge.split(" ")) != last]
    words["</think>"] = number
    said["added_tokens"].insert(0, {**said["added_tokens"][0], "id": number, "content": "</think>", "special": False})
    (folder / "tokenizer.json").write_text(json.dumps(said), encoding="utf-8")


@pytest.mark.slow
def test_the_examples_of_the_help_work_as_pasted(tmp_path):
    """In a folder where path/to/checkpoint and path/to/base are the demo's, their/model.litertlm made from it, out/reasoner one that marks the end of thinking, and an APK of the app, which carries TensorFlow Lite alone."""
    shutil.copy(Path(__file__).parent / "device" / "apks" / "tensorflow-lite.apk", tmp_path / "firsttoken-demo.apk")
    (tmp_path / "path/to/lora").mkdir(parents=True)
    (tmp_path / "path/to/checkpoint").symlink_to(checkpoint_path())
    (tmp_path / "path/to/base").symlink_to(checkpoint_path())
    write_adapter(tmp_path / "path/to/lora")
    [theirs] = export(checkpoint_path(), tmp_path / "int8", "int8", ("litertlm-cpu",), prove=False)
    theirs.rename(tmp_path / "their")
    export(checkpoint_path(), tmp_path / "out", targets=("litertlm-cpu",), prove=False)
    write_reasoner(tmp_path / "reasoner")
    [reasoner] = export(tmp_path / "reasoner", tmp_path / "thinks", prove=False)
    (tmp_path / "out/reasoner").symlink_to(reasoner)
    (tmp_path / "budget.toml").write_text("[[budget]]\nprompt_tokens = 128\nfirst_token_ms = 100000\n")
    lines = [
        line
        for verb in ("export", "prove", "generate", "bench", "demo")
        for line in examples(verb)
        if not any(needs in line for needs in ("--on arm", "--on gpu", "hexagon", "smollm2", "Qwen/"))  # other machines, the network
    ]
    assert len(lines) >= 6
    for line in lines:
        done = run(*shlex.split(line)[1:], cwd=tmp_path)
        assert done.returncode == 0, (line, done.stderr)
    assert (tmp_path / "out" / "tflite-compat" / "model.tflite").is_file(), "for the APK"


def test_export_prove_generate_are_quiet_and_say_what_they_did(tmp_path):
    done = run("export", checkpoint_path(), "-o", tmp_path / "out", "--audit")
    assert done.returncode == 0 and done.stderr == ""
    assert "will take about" in done.stdout.splitlines()[0]
    assert "mean KLD" in done.stdout and re.search(r"layers\.3\.attention\.core +fp16 +fp16 +fp16 +yes", done.stdout)
    bundle = tmp_path / "out/tflite-xnnpack"
    done = run("prove", bundle, "--checkpoint", checkpoint_path(), "--threads", 1)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.splitlines()[-1].startswith("proven")
    done = run("generate", bundle, "--prompt", "-", "--raw", "--max-tokens", 12, input="def close(self):\n")
    assert done.returncode == 0 and done.stdout.strip()
    assert re.fullmatch(r"\[load .* s; first token .* s after \d+ prompt tokens; 12 tokens, .* tokens/s; stopped: .*\]\n", done.stderr)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_export_leaves_nothing(tmp_path, number, code):
    """Interrupted as soon as the hidden folder is there."""
    process = subprocess.Popen(
        [*COMMAND, "export", checkpoint_path(), "-o", tmp_path / "out"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(number)
    assert process.wait(60) == code
    assert process.stderr.read() == ""
    assert list(tmp_path.iterdir()) == []


def test_output_into_a_closed_pipe():
    done = subprocess.run(
        f"{shlex.join(COMMAND)} plans | true; exit ${{PIPESTATUS[0]}}", shell=True, executable="/bin/bash", capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr


def test_a_home_that_cannot_be_written(tmp_path, demo_bundle):
    (tmp_path / "file").write_text("")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "file"), "HOME": str(Path("/proc/nowhere"))}
    done = run("generate", demo_bundle("tflite-xnnpack"), "--prompt", "x", "--max-tokens", 4, env=environment)
    assert done.returncode == 0 and "error" not in done.stderr
