"""The written graph as it is run: over one cache, with as many threads as asked, its weights mapped; and as onnxruntime-genai runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from firsttoken.backends.onnx.genai import CONFIG_FILE
from firsttoken.backends.registry import find_backend
from firsttoken.bundle.manifest import read_manifest
from firsttoken.cli import run as firsttoken
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.run.open import open_runner
from firsttoken.tokenizer import open_tokenizer

GENAI = os.environ.get("FIRSTTOKEN_GENAI_PYTHON")  # a Python that has onnxruntime-genai, which no extra of ours brings
TEXT = "def close(self):\n    "


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    [made] = export(checkpoint_path(), tmp_path_factory.mktemp("onnx"), "int8", ("onnx-cpu",), prove=False, cache_length=256)
    return made


def greedy(bundle, text, count):
    """Our runner's tokens."""
    manifest = read_manifest(bundle)
    tokenizer, runner = open_tokenizer(bundle, manifest), open_runner(bundle, 1)
    given = tokenizer.encode(text, begin=False)
    logits, found = runner.prefill(given), []
    for _ in range(count):
        found.append(int(np.argmax(logits[: manifest.tokenizer.vocab_size])))
        logits = runner.decode(found[-1])
    runner.close()
    return [int(token) for token in given], found


def test_the_bundle_names_all_its_files(bundle):
    manifest = read_manifest(bundle)
    assert (
        {"model.onnx", "model.onnx.data", CONFIG_FILE, "tokenizer.json"}
        <= set(manifest.files)
        == {path.name for path in bundle.iterdir()} - {"manifest.json"}
    )
    assert manifest.size(manifest.cpu) == sum((bundle / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))
    assert manifest.size(manifest.cpu) < 1.25 * manifest.checkpoint.parameters  # the table, which is the head too, is stored once


@pytest.mark.parametrize("damage", ["model.onnx.data", "model.onnx"])
def test_a_damaged_file_is_refused(bundle, tmp_path, damage):
    import shutil

    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    data = bytearray((copy / damage).read_bytes())
    data[len(data) // 2] ^= 255
    (copy / damage).write_bytes(data)
    with pytest.raises(FirstTokenError, match=f"{damage}: SHA-256 .* the file is damaged or was replaced"):
        open_runner(copy)


def test_the_verbs(bundle, capsys, tmp_path):
    assert firsttoken(["generate", str(bundle), "--prompt", TEXT, "--raw", "--max-tokens", "8"]) == 0
    assert len(capsys.readouterr().out.strip()) > 4
    assert firsttoken(["bench", str(bundle), "--prompts", "16", "--repeat", "2", "-o", str(tmp_path / "m.json")]) == 0
    [result] = json.loads((tmp_path / "m.json").read_text())["results"]
    assert result["runtime_version"] == f"onnxruntime {onnxruntime.__version__}" and not result["failures"]


def test_pieces_give_what_the_whole_gives(bundle):
    runner = open_runner(bundle, 1)
    tokens = np.random.default_rng(2).integers(0, 2000, 60)
    whole = runner.prefill(tokens).copy()
    runner.reset()
    runner.prefill(tokens[:20])
    held, tokens_held = runner.held_arrays(), runner.held_tokens
    runner.prefill(tokens[20:59])
    np.testing.assert_allclose(runner.decode(int(tokens[59])), whole, atol=2e-3 * np.abs(whole).max())
    runner.reset()
    runner.hold_again(tokens_held, held)  # a kept prefix
    np.testing.assert_allclose(runner.prefill(tokens[20:]), whole, atol=2e-3 * np.abs(whole).max())
    runner.close()


PROBE = """
import sys, os
from firsttoken.run.open import open_runner
runner = open_runner(sys.argv[1], int(sys.argv[2]), check=False)
before = len(os.listdir("/proc/self/task"))
runner.prefill(list(range(200)))
mapped = [line for line in open("/proc/self/maps") if "model.onnx.data" in line]
print(before, len(os.listdir("/proc/self/task")), len(mapped))
"""


def test_threads_are_those_asked_for_and_weights_are_mapped(bundle):
    """A mapped file of floats; integers are packed for the CPU as they are loaded."""
    counts = {}
    for threads in (1, 3):
        command = [sys.executable, "-c", PROBE, str(bundle), str(threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        counts[threads] = [int(word) for word in done.stdout.split()]
    assert counts[3][1] - counts[1][1] == 2
    assert counts[1][2] > 0


def test_genai_config_says_where_an_answer_ends(bundle):
    config, manifest = json.loads((bundle / CONFIG_FILE).read_text()), read_manifest(bundle)
    assert config["model"]["eos_token_id"] == manifest.tokenizer.end and config["model"]["context_length"] == 256
    assert config["model"]["decoder"]["num_hidden_layers"] == manifest.checkpoint.layers


@pytest.mark.skipif(
    GENAI is None, reason="onnxruntime-genai is not set up: FIRSTTOKEN_GENAI_PYTHON names a Python that has it (docs/onnx.md)"
)
def test_genai_generates_the_same(bundle):
    given, expected = greedy(bundle, TEXT, 24)
    program = Path(__file__).parents[3] / "examples" / "onnxruntime-genai" / "generate.py"
    done = subprocess.run([GENAI, str(program), str(bundle), TEXT, "24", "--tokens"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["prompt"] == given and found["answer"] == expected


def test_heads_that_the_kernel_does_not_take_are_refused(tmp_path):
    from families_on_disk import random_model, save

    from firsttoken.checkpoint import Checkpoint
    from firsttoken.decoder.walk import open_decoder
    from firsttoken.targets.target import load_target

    folder = save(random_model("llama2", hidden_size=48, num_attention_heads=4, num_key_value_heads=4), tmp_path / "narrow")
    with Checkpoint(folder) as checkpoint, pytest.raises(FirstTokenError, match="multiple of 8 values, and layers.0.attention.core has 12"):
        find_backend("onnx-cpu").check_model(open_decoder(checkpoint), load_target("onnx-cpu", 64))


def test_what_is_measured_is_both_files(tmp_path):
    """Sizes, budgets and cold starts count the weights that lie beside the graph."""
    from firsttoken.demo import checkpoint_path
    from firsttoken.measure.candidates import Lengths, bundle_candidate
    from firsttoken.pipeline import export
    from firsttoken.progress import silent

    [bundle] = export(checkpoint_path(), tmp_path, "int8", ("onnx-cpu",), prove=False, cache_length=64)
    candidate = bundle_candidate(bundle, Lengths((16,), 2, None, 1, None), silent)
    files = [bundle / "model.onnx", bundle / "model.onnx.data"]
    assert candidate.identity.artifact_bytes == sum(file.stat().st_size for file in files) > 4_000_000
    assert set(files) <= set(candidate.files())
