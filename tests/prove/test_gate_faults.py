"""Faults planted in a written bundle or its runner: the proof of the demo bundle has to catch each one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.errors import GateError
from firsttoken.pipeline import export
from firsttoken.prove import prove as proving
from firsttoken.prove.prove import prove
from firsttoken.quant.plan import load_plan

TARGETS = ["tflite-xnnpack", pytest.param("executorch-xnnpack", marks=pytest.mark.slow)]
pytestmark = pytest.mark.parametrize("target", TARGETS)


def faulty_bundle(tmp_path: Path, target: str, weights=None, config=None, plan: str = "fp16-attention") -> Path:
    """Exports a changed copy of the demo checkpoint and makes the manifest claim that it is the original's."""
    copy = Path(shutil.copytree(checkpoint_path(), tmp_path / "faulty"))
    if weights:
        tensors = load_file(copy / "model.safetensors")
        weights(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, copy / "model.safetensors")
    if config:
        path = copy / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    [bundle] = export(copy, tmp_path / "out", plan=plan, targets=(target,), prove=False)
    return claim(bundle)


def claim(bundle: Path) -> Path:
    from firsttoken.checkpoint import Checkpoint

    manifest = read_manifest(bundle)
    manifest.checkpoint.fingerprint = Checkpoint(checkpoint_path()).fingerprint()
    manifest.plan = load_plan("fp16-attention")
    manifest.write(bundle)
    return bundle


def caught(bundle: Path, *said: str) -> list[str]:
    proof, _ = prove(bundle, checkpoint_path())
    assert not proof.passed and proof.misses
    for text in said:
        assert any(text in miss for miss in proof.misses), proof.misses
    return proof.misses


def test_the_bundle_without_a_fault_passes(target, demo_bundle):
    proof, rows = prove(demo_bundle(target), checkpoint_path())
    assert proof.passed, proof.misses
    assert proof.all.tokens >= 500 and proof.prefill.tokens >= 30 and proof.decode.tokens >= 400
    assert proof.all.tokens == proof.prefill.tokens + proof.decode.tokens
    assert proof.all.first_diverging is None
    assert [row.layer for row in rows][:3] == ["embedding", "layers.0.attention.q", "layers.0.attention.k"]


def test_scaled_weight(target, tmp_path):
    def scale(tensors):
        tensors["model.layers.1.mlp.down_proj.weight"] *= 1.5

    caught(faulty_bundle(tmp_path, target, scale), "KL divergence")


def test_scaled_head(target, tmp_path):
    def scale(tensors):
        tensors["model.norm.weight"] *= 1.08

    caught(faulty_bundle(tmp_path, target, scale), "magnitude")


def test_swapped_layers(target, tmp_path):
    def swap(tensors):
        for name in [n for n in tensors if n.startswith("model.layers.1.")]:
            other = name.replace(".1.", ".2.", 1)
            tensors[name], tensors[other] = tensors[other], tensors[name]

    caught(faulty_bundle(tmp_path, target, swap), "KL divergence")


def test_lost_bias(target, tmp_path):
    def lose(tensors):
        for name in tensors:
            if name.endswith("q_proj.bias"):
                tensors[name] *= 0

    caught(faulty_bundle(tmp_path, target, lose), "KL divergence")


def test_wrong_rope_base(target, tmp_path):
    caught(faulty_bundle(tmp_path, target, config={"rope_theta": 500000.0}), "KL divergence")


def test_unquantized_layer(target, tmp_path):
    rules = '[[rule]]\nmatch = "layers.2.mlp.up"\nprecision = "fp32"\n'
    from firsttoken.declarations import declaration_folder

    text = (declaration_folder("quant") / "fp16-attention.toml").read_text().replace("[[rule]]", rules + "\n[[rule]]", 1)
    (tmp_path / "mine.toml").write_text(text)
    misses = caught(faulty_bundle(tmp_path, target, plan=tmp_path / "mine.toml"), "layers.2.mlp.up: asked int8, stored fp32")
    assert not any("KL divergence" in miss for miss in misses), "the figures alone would not have shown it"


def wrapped(monkeypatch, **methods):
    """Makes proofs run through a runner with methods replaced; each is given the runner and the plain method."""
    plain_open = proving.open_runner

    def open_faulty(folder, threads=None):
        runner = plain_open(folder, threads)
        for name, method in methods.items():
            plain = getattr(runner, name)
            setattr(runner, name, lambda tokens, plain=plain, method=method: method(runner, plain, tokens))
        return runner

    monkeypatch.setattr(proving, "open_runner", open_faulty)


def forget(runner, plain, tokens):
    """Runs the tokens at their position with a cache in which the first token's rows stand for all."""
    position = runner.position
    if position < 2:
        return plain(tokens)
    runner.reset()
    plain_first = type(runner)._prefill
    plain_first(runner, np.full(position, 5, np.int32)) if position <= runner.manifest.target.prefill_chunk else None
    runner.position = position
    return plain(tokens)


def test_lost_cache(target, demo_bundle, monkeypatch):
    wrapped(monkeypatch, _decode=forget)
    caught(demo_bundle(target), "KL divergence", "decode calls")


def test_lost_cache_between_chunks_only(target, demo_bundle, monkeypatch):
    def forget_once(runner, plain, tokens):
        return forget(runner, plain, tokens) if runner.position else plain(tokens)

    wrapped(monkeypatch, _prefill=forget_once)
    caught(demo_bundle(target), "extend calls")


def test_position_off_by_one(target, demo_bundle, monkeypatch):
    def late(runner, plain, tokens):
        runner.position = max(0, runner.position - 1)
        try:
            return plain(tokens)
        finally:
            runner.position = runner.position + 1

    wrapped(monkeypatch, _decode=late)
    caught(demo_bundle(target), "KL divergence")


def test_logits_that_are_not_numbers(target, demo_bundle, monkeypatch):
    wrapped(
        monkeypatch, _decode=lambda runner, plain, token: plain(token) * np.float32(np.nan) if runner.position == 1200 else plain(token)
    )
    caught(demo_bundle(target), "mean KL divergence", "position 1200")


def test_a_missed_gate_keeps_the_bundle_aside(target, tmp_path, capsys, monkeypatch):
    """Through the command line: exit code 3, one line that says what, the rejected bundle with its proof, the old bundle untouched."""
    from firsttoken import cli

    [old] = export(checkpoint_path(), tmp_path / "out", targets=(target,), prove=False)
    before = (old / "manifest.json").read_bytes()
    strict = tmp_path / "strict.toml"
    from firsttoken.declarations import declaration_folder

    strict.write_text((declaration_folder("quant") / "fp16-attention.toml").read_text().replace("mean_kld = 0.02", "mean_kld = 1e-9"))
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
