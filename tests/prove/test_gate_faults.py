"""Faults planted in a written bundle or its runner: the proof of the demo bundle has to catch each one."""

import json
import re
import shutil
from pathlib import Path

import planted_faults as planted
import pytest
from safetensors.torch import load_file, save_file

from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.declarations import declaration_folder
from firsttoken.demo import checkpoint_path
from firsttoken.errors import GateError
from firsttoken.pipeline import export
from firsttoken.prove import prove as proving
from firsttoken.prove.prove import prove
from firsttoken.prove.words import missed_words
from firsttoken.quant.plan import load_plan

TARGETS = ["tflite-xnnpack", pytest.param("executorch-xnnpack", marks=pytest.mark.slow)]
on_both = pytest.mark.parametrize("target", TARGETS)
# An export to .pte takes long; the others are caught by the same figures.
ON_EXECUTORCH = (
    "an eighth of a down projection scaled", "logits 1 % too large", "one layer's v bias lost", "two rows of a gate swapped",
    "a norm scaled", "gate and up swapped",
)  # fmt: skip


def mostly_slow(faults, *quick: str):
    """The faults as parameters, all but a few of them slow."""
    return [fault if fault in quick else pytest.param(fault, marks=pytest.mark.slow) for fault in faults]


@pytest.fixture(autouse=True)
def expected_once(monkeypatch, request):
    """Every proof of one plan on one backend expects the same: it is computed once."""
    cache = request.config.__dict__.setdefault("_expected_of_the_demo", {})
    plain = proving.expectations

    def expectations(checkpoint, decoder, manifest, windows, precisions, backend, report, gain=False):
        key = (checkpoint.fingerprint(), gain, backend.name, str(precisions), str([window.tokens.tobytes() for window in windows]))
        if key not in cache:
            cache[key] = plain(checkpoint, decoder, manifest, windows, precisions, backend, report, gain)
        return cache[key]

    monkeypatch.setattr(proving, "expectations", expectations)


def faulty_bundle(tmp_path: Path, target: str, weights=None, config=None, plan: str = "fp16-attention", claimed: str = "") -> Path:
    """Exports a changed copy of the demo checkpoint and makes the manifest claim that it is the original's, by the plan ``claimed``."""
    copy = Path(shutil.copytree(checkpoint_path(), tmp_path / "faulty"))
    if weights:
        tensors = load_file(copy / "model.safetensors")
        weights(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, copy / "model.safetensors")
    if config:
        path = copy / "config.json"
        settings = json.loads(path.read_text())
        assert set(config) <= set(settings) and settings != {**settings, **config}
        path.write_text(json.dumps({**settings, **config}))
    [bundle] = export(copy, tmp_path / "out", plan=plan, targets=(target,), prove=False)
    manifest = read_manifest(bundle)
    manifest.checkpoint.fingerprint = Checkpoint(checkpoint_path()).fingerprint()
    manifest.plan = load_plan(claimed or plan)
    manifest.write(bundle)
    return bundle


def caught(bundle: Path, *said: str) -> list[str]:
    proof, _ = prove(bundle, checkpoint_path())
    assert not proof.passed and proof.misses
    for text in said:
        assert any(text in miss for miss in proof.misses), proof.misses
    return proof.misses


@on_both
def test_the_bundle_without_a_fault_passes(target, demo_bundle):
    proof, rows = prove(demo_bundle(target), checkpoint_path())
    assert proof.passed, proof.misses
    assert proof.all.tokens >= 500 and proof.prefill.tokens >= 30 and proof.decode.tokens >= 400
    assert proof.all.tokens == proof.prefill.tokens + proof.decode.tokens
    assert proof.all.first_diverging is None
    assert proof.last_position == read_manifest(demo_bundle(target)).target.cache_length - 1
    assert proof.twin is not None and proof.twin.positions >= 100 and abs(proof.twin.scale - 1) < 0.002
    assert proof.twin.mean_kld < proof.all.mean_kld, "the plan's own rounding is most of the damage"
    assert [row.layer for row in rows][:3] == ["embedding", "layers.0.attention.q", "layers.0.attention.k"]


@pytest.mark.parametrize("fault", mostly_slow(planted.WEIGHTS, "one layer's v bias lost", "logits 1 % too large"))
def test_other_weights(fault, tmp_path):
    caught(faulty_bundle(tmp_path, "tflite-xnnpack", planted.WEIGHTS[fault]), "not built as the plan says")


@pytest.mark.slow
@pytest.mark.parametrize("fault", ON_EXECUTORCH)
def test_other_weights_on_executorch(fault, tmp_path):
    caught(faulty_bundle(tmp_path, "executorch-xnnpack", planted.WEIGHTS[fault]), "not built as the plan says")


@pytest.mark.slow
@pytest.mark.parametrize("fault", planted.CONFIG)
def test_another_configuration(fault, tmp_path):
    caught(faulty_bundle(tmp_path, "tflite-xnnpack", config=planted.CONFIG[fault]), "not built as the plan says")


@pytest.mark.slow
def test_another_configuration_on_executorch(tmp_path):
    caught(faulty_bundle(tmp_path, "executorch-xnnpack", config=planted.CONFIG["rope base 8000"]), "not built as the plan says")


@pytest.mark.parametrize("fault", mostly_slow(planted.FINE, "epsilon times 10"))
def test_a_fine_fault_where_attention_is_not_rounded(fault, tmp_path):
    """FP16 attention rounds as much away as these add: there they are no fault that anyone could find in an answer."""
    caught(faulty_bundle(tmp_path, "tflite-xnnpack", config=planted.FINE[fault], plan="int8"), "not built as the plan says")


@on_both
@pytest.mark.parametrize("fault", mostly_slow(planted.RUNNING, "decoding forgets the cache", "noise from position 1024 on"))
def test_a_faulty_runner(fault, target, demo_bundle, monkeypatch):
    plain_open = proving.open_runner

    def open_faulty(folder, threads=None, kept=True):
        runner = plain_open(folder, threads, kept=kept)
        for name, method in planted.RUNNING[fault].items():
            plain = getattr(runner, name)
            setattr(runner, name, lambda tokens, plain=plain, method=method: method(runner, plain, tokens))
        return runner

    monkeypatch.setattr(proving, "open_runner", open_faulty)
    caught(demo_bundle(target))


@on_both
def test_an_unquantized_layer(target, tmp_path):
    rules = '[[rule]]\nmatch = "layers.2.mlp.up"\nprecision = "fp32"\n'
    text = (declaration_folder("quant") / "fp16-attention.toml").read_text().replace("[[rule]]", rules + "\n[[rule]]", 1)
    (tmp_path / "mine.toml").write_text(text)
    bundle = faulty_bundle(tmp_path, target, plan=tmp_path / "mine.toml", claimed="fp16-attention")
    misses = caught(bundle, "layers.2.mlp.up: asked int8, stored fp32")
    assert not any("mean KL divergence" in miss for miss in misses), "the checkpoint's figures alone would not have shown it"


@pytest.mark.parametrize("fault", planted.WORDS)
def test_other_words(fault, demo_bundle, tmp_path):
    bundle = Path(shutil.copytree(demo_bundle("tflite-xnnpack"), tmp_path / "bundle"))
    manifest = read_manifest(bundle)
    assert missed_words(bundle, manifest, checkpoint_path()) == []
    planted.change_words(bundle, manifest, planted.WORDS[fault])
    assert missed_words(bundle, manifest, checkpoint_path())


def test_other_words_fail_the_proof(demo_bundle, tmp_path):
    bundle = Path(shutil.copytree(demo_bundle("tflite-xnnpack"), tmp_path / "bundle"))
    manifest = read_manifest(bundle)
    manifest.tokenizer.end = []
    manifest.write(bundle)
    caught(bundle, "tokenizer: end is []")


def test_an_overflow_is_said_as_such(tmp_path, demo_bundle):
    """Keys of a size that FP16 scores cannot hold: the figures say nothing of where it began."""
    copy = Path(shutil.copytree(checkpoint_path(), tmp_path / "loud"))
    tensors = load_file(copy / "model.safetensors")
    for name in ("q", "k"):
        tensors[f"model.layers.1.self_attn.{name}_proj.weight"] *= 300
    save_file(tensors, copy / "model.safetensors")
    [bundle] = export(copy, tmp_path / "out", targets=("tflite-xnnpack",), prove=False)
    proof, _ = prove(bundle, copy)
    assert "FP16 overflow first in layers.1.attention" in proof.misses[0] and "give it fp32 or int8" in proof.misses[0]


@on_both
def test_a_missed_gate_keeps_the_bundle_aside(target, tmp_path, capsys, monkeypatch):
    """Through the command line: exit code 3, one line that says what, the rejected bundle with its proof, the old bundle untouched."""
    from firsttoken import cli

    [old] = export(checkpoint_path(), tmp_path / "out", targets=(target,), prove=False)
    before = (old / "manifest.json").read_bytes()
    strict = tmp_path / "strict.toml"
    plan = (declaration_folder("quant") / "fp16-attention.toml").read_text()
    strict.write_text(re.sub("mean_kld = .*", "mean_kld = 1e-9", plan))
    for _ in range(2):  # the second replaces the first rejected bundle
        assert cli.run(["export", str(checkpoint_path()), "-o", str(tmp_path / "out"), "--plan", str(strict), "-t", target, "--force"]) == 3
    [line] = {line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")}
    assert "mean KL divergence" in line and f"{target}.rejected" in line
    assert (old / "manifest.json").read_bytes() == before
    rejected = read_manifest(tmp_path / "out" / f"{target}.rejected")
    assert not rejected.need_proof().passed and rejected.need_proof().misses and len(rejected.cpu.audit) > 30
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([target, f"{target}.rejected"])
    with pytest.raises(GateError):
        export(checkpoint_path(), tmp_path / "new", plan=strict, targets=(target,))
