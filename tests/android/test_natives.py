"""The APK's own native library on x86_64, under the app's own compiled classes: what it computes, measures and answers."""

import subprocess
import sys

import pytest
from android.jars import aars
from android.natives import checks, example
from building import REPOSITORY

from firsttoken.bundle.manifest import read_manifest
from firsttoken.device.request import ProfileSettings
from firsttoken.quant.plan import plan_names

pytestmark = pytest.mark.slow

PLANS = [name for name in plan_names() if "int4" not in name]  # what tflite-compat has
LONG = "Explain what this does: " + "x = x + 1 " * 120


def within(result, of):
    assert result.failures == []
    assert result.furthest < checks.bound(read_manifest(of)), f"{result.furthest:.1e} of the logits' spread"
    assert result.same_top > 0.95


@pytest.mark.parametrize("plan", PLANS)
def test_every_plan_at_every_length_and_to_the_caches_end(x86, bundle, plan):
    made = bundle(plan)
    result = checks.compare_logits(x86, made)
    within(result, made)
    assert result.positions == 7 * (1 + checks.DECODED) + 1 + 280


def test_the_default_benchmark_on_the_default_plan(x86, bundle):
    """What `firsttoken export` writes for this APK, measured as `firsttoken device profile` asks by default, and cold."""
    measured = checks.profile(x86, bundle("fp16-attention"))
    assert measured.failures == []
    # five warm runs and a cold one of each, and the warm-up of the longest
    assert {tokens: len(found) for tokens, found in measured.runs.items()} == {32: 6, 128: 6, 512: 7}


def test_answers_of_try_it(x86, bundle):
    said = checks.answers(x86, bundle("fp16-attention"), ["Why is the sky blue?", LONG, "def read_lines(path):"])
    assert [(one["phase"], one.get("error")) for one in said] == [("DONE", None)] * 3
    assert said[1]["promptTokens"] > 256 and all(one["text"].strip() for one in said)


def test_the_next_question_of_a_chat_reads_only_what_is_new(x86, bundle):
    first, second = checks.answers(x86, bundle("fp32"), ["Why is the sky blue?", "And at night?"], most=12, chat=True)
    assert first["phase"] == second["phase"] == "DONE" and first["cachedTokens"] == 0
    assert first["promptTokens"] <= second["cachedTokens"] < second["promptTokens"]


def test_an_answer_is_the_commands(x86, bundle):
    """In FP32, where kernels of another version do not round otherwise."""
    from firsttoken import generate

    [said] = checks.answers(x86, bundle("fp32"), ["Why is the sky blue?"], most=24)
    assert said["text"] == "".join(generate(bundle("fp32"), "Why is the sky blue?", max_tokens=24))


def test_a_prompt_that_fails_natively_breaks_no_other(x86, faulty_bundle):
    measured = checks.profile(x86, faulty_bundle, ProfileSettings(prompts=(32, 512), threads=2))
    assert {tokens: len(found) for tokens, found in measured.runs.items()} == {32: 6}
    assert measured.failures and all("CAST) failed to prepare" in message and "\n" not in message for message in measured.failures)
    result = checks.compare_logits(x86, faulty_bundle, lengths=(300, 20, 512, 20), to_the_end=False)
    assert [line.partition(" ")[0] for line in result.failures] == ["300", "512"] and result.positions == 8
    said = checks.answers(x86, faulty_bundle, [LONG, "Why is the sky blue?"])
    assert [one["phase"] for one in said] == ["FAILED", "DONE"] and "CAST) failed to prepare" in said[0]["error"]


def test_the_command_takes_aars(x86, bundle):
    command = [sys.executable, REPOSITORY / "scripts" / "android_natives", "--quick"]
    command += [word for aar in aars("tensorflow-lite") for word in ("--aar", aar)]
    done = subprocess.run([*map(str, command), str(bundle("int8"))], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "libtensorflowlite_jni.so (tflite 2.16.1)" in done.stdout and "int8, tflite-compat: logits of 32 positions" in done.stdout


@pytest.mark.parametrize("plan", ["fp32", "fp16-attention"])
def test_the_kotlin_example_prints_what_the_python_one_does(x86, bundle, plan):
    made, prompt = bundle(plan, "tflite-interpreter", cache_length=200), "def read_lines(path):"
    python = subprocess.run(
        [sys.executable, str(example.SOURCE / "generate.py"), str(made), prompt, "24"], capture_output=True, text=True, timeout=300
    )
    assert python.returncode == 0, python.stderr[-2000:]
    assert example.generate(x86, made, prompt, 24) == python.stdout
