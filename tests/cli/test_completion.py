"""Shell completion, asked as a shell asks: names of plans and targets, soon enough for a key press."""

import os
import resource
import subprocess
import sys

import pytest

from firsttoken.declarations import declaration_names


def complete(*words: str, **more) -> list[str]:
    """What bash is offered for the last of ``words``."""
    line = {"COMP_WORDS": " ".join(("firsttoken", *words)), "COMP_CWORD": str(len(words)), "_FIRSTTOKEN_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-m", "firsttoken"], env={**os.environ, **line}, capture_output=True, text=True, check=True, **more
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("export", "x", "--plan", "fp16"), [name for name in declaration_names("quant") if name.startswith("fp16")]),
        (("export", "x", "-t", "tflite-x"), ["tflite-xnnpack"]),
        (("demo", "-p", "int8"), ["int8", "int8-apart"]),
        (("distill", "run", "demo-c"), ["demo-cut"]),
        (("distill", "chain", "x", "-t", "executorch-x"), ["executorch-xnnpack"]),
        (("export", "x", "-t", "onnx"), ["onnx-cpu"]),
        (("ev",), ["evaluate"]),
        (("export", "x", "--plan", "mine.toml"), []),  # bash then offers files
    ],
)
def test_names_are_offered(words, offered):
    assert complete(*words) == offered


def test_a_key_press_waits_for_nothing_heavy():
    program = (
        "import sys, atexit; from firsttoken.cli import main; "
        "atexit.register(lambda: print([m for m in ('numpy', 'torch', 'tokenizers', 'jinja2') if m in sys.modules], file=sys.stderr)); main()"
    )
    line = {"COMP_WORDS": "firsttoken export x -p fp", "COMP_CWORD": "4", "_FIRSTTOKEN_COMPLETE": "complete_bash"}
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = subprocess.run([sys.executable, "-c", program], env={**os.environ, **line}, capture_output=True, text=True)
        took.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)  # the machine may be busy
    assert "fp16-attention" in done.stdout and done.stderr == "[]\n"
    assert min(took) < 0.8


def test_it_can_be_installed(tmp_path):
    home = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = subprocess.run([sys.executable, "-m", "firsttoken", "--show-completion", "bash"], env=home, capture_output=True, text=True)
    assert "_FIRSTTOKEN_COMPLETE=complete_bash" in shown.stdout
    done = subprocess.run([sys.executable, "-m", "firsttoken", "--install-completion", "bash"], env=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    script = tmp_path / ".bash_completions/firsttoken.sh"
    assert script.read_text().strip() == shown.stdout.strip() and str(script) in (tmp_path / ".bashrc").read_text()
