"""The plain Interpreter takes it: only types that the public API has, fixed shapes, and the examples generate what our runner does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from firsttoken.backends.registry import backend_of
from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.quant.plan import plan_names
from firsttoken.run.open import open_runner
from firsttoken.targets.target import load_target
from firsttoken.tokenizer import Tokenizer

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "plain-interpreter" / "generate.py"
OLD = ROOT / ".work" / "tflite-2.16"
PROMPT = "def read_lines(path):\n    with open(path) as file:\n        return "
# int4 weights are no type of TensorFlow Lite 2.16
PLANS = [name for name in plan_names() if "int4" not in name]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    made = {}

    def make(plan):
        if plan not in made:
            [made[plan]] = export(checkpoint_path(), tmp_path_factory.mktemp("plain"), plan=plan, targets=["tflite-interpreter"], prove=False, cache_length=200)  # fmt: skip
        return made[plan]

    return make


@pytest.mark.parametrize("plan", PLANS)
def test_its_border_is_of_types_and_shapes_that_every_interpreter_has(exported, plan):
    methods = read_manifest(exported(plan)).cpu.methods
    assert {method.name for method in methods} == {"prefill_16", "prefill_64", "decode"}
    for tensor in (tensor for method in methods for tensor in (*method.inputs, *method.outputs)):
        assert tensor.dtype in ("float32", "int32") and all(isinstance(n, int) for n in tensor.shape), tensor


def greedy(bundle, count):
    tokenizer, runner = Tokenizer(bundle), open_runner(bundle, 2)
    tokens = tokenizer.encode(PROMPT, begin=False)
    logits = runner.prefill(tokens)
    for _ in range(count):
        tokens.append(int(logits.argmax()))
        logits = runner.decode(tokens[-1])
    runner.close()
    return tokenizer.decode(tokens)


def example(bundle, source=None, **environment):
    command = [sys.executable, *(["-c", source] if source else [EXAMPLE]), bundle, PROMPT, "24"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.rstrip("\n")


@pytest.mark.parametrize("plan", ["fp32", "int8", "fp16-attention"])
def test_the_example_generates_what_our_runner_does(exported, plan):
    assert example(exported(plan)) == greedy(exported(plan), 24).rstrip("\n")


@pytest.mark.slow
@pytest.mark.skipif(not (OLD / "ready").exists(), reason="TensorFlow Lite 2.16.1 is not set up: run scripts/setup_tflite216")
def test_the_example_on_the_oldest_tensorflow_lite(exported):
    """The engine of the Java package of the same version."""
    source = EXAMPLE.read_text().replace("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
    got = example(exported("fp32"), source, LD_LIBRARY_PATH=str(OLD), PYTHONPATH=str(OLD))
    assert got == greedy(exported("fp32"), 24).rstrip("\n")


def test_the_examples_are_short():
    for name in ("generate.py", "Generate.kt"):
        assert len(EXAMPLE.with_name(name).read_text().splitlines()) <= 50


def test_a_target_without_lengths_is_refused(tmp_path):
    text = (ROOT / "export" / "tflite-interpreter.toml").read_text()
    other = tmp_path / "other.toml"
    other.write_text("".join(line for line in text.splitlines(True) if not line.startswith("prefill_lengths")))
    with pytest.raises(FirstTokenError, match="has fixed lengths; give prefill_lengths"):
        backend_of(load_target(other))


def test_lengths_for_a_backend_that_takes_any_are_refused(tmp_path):
    text = (ROOT / "export" / "tflite-xnnpack.toml").read_text()
    other = tmp_path / "other.toml"
    other.write_text(text + "prefill_lengths = [16, 64]\n")
    with pytest.raises(FirstTokenError, match="takes prompts of any length; leave out prefill_lengths"):
        backend_of(load_target(other))
    other.write_text(text + "prefill_lengths = [64, 16]\n")
    with pytest.raises(FirstTokenError, match="expected ascending lengths"):
        load_target(other)
