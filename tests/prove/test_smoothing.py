"""Smoothing is tried and measured: kept where it brings the model nearer, said in the manifest, and in every weight of the file."""

import re
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from firsttoken.backends.registry import find_backend
from firsttoken.bundle.manifest import read_manifest
from firsttoken.calibration.integers import facts_of
from firsttoken.calibration.text import read_text
from firsttoken.checkpoint import Checkpoint
from firsttoken.declarations import declaration_folder
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.prove import smoothing
from firsttoken.prove.prove import prove
from firsttoken.prove.smoothing import choose, described
from firsttoken.quant.plan import load_plan

BACKEND = find_backend("tflite-xnnpack")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def with_outliers(tiny_checkpoint, tmp_path):
    """The tiny checkpoint with a channel that every norm gives 60 times as large, and weights that take as little of it."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "outliers")
    tensors = load_file(folder / "model.safetensors")
    for name, values in tensors.items():
        if name.endswith("layernorm.weight"):
            values[7] *= 60
        elif name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight")):
            values[:, 7] /= 60
    save_file(tensors, folder / "model.safetensors")
    return folder


def smooth(tmp_path, name="int8"):
    path = tmp_path / f"{name}-smooth.toml"
    text = load_plan_file(name).replace("\n", "\nsmooth = true\n", 1)
    path.write_text(text)
    return path


def load_plan_file(name):
    return (declaration_folder("quant") / f"{name}.toml").read_text()


def chosen(folder, plan, report=lambda *_: None):
    source = Checkpoint(folder)
    decoder, text = open_decoder(source), read_text(None)
    precisions = plan.resolve(plan_layers(decoder), "t", BACKEND.precisions)
    facts = facts_of(plan, decoder, precisions, text)
    found = choose(source, decoder, plan, precisions, BACKEND, facts, text, report)
    return found, facts.model_copy(update={"smoothing": found})


def test_what_helps_is_kept(with_outliers, tmp_path):
    found, facts = chosen(with_outliers, load_plan(smooth(tmp_path)))
    assert "norms" in found.kept and found.tokens == 512
    assert found.mean_kld < 0.2 * found.mean_kld_without
    assert "held back of firsttoken's calibration text" in described(facts) and "smoothed (norms" in described(facts)


def test_what_does_not_help_is_not_kept(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(smoothing, "STRENGTHS", (4.0,))  # so much that the weights have the outliers
    found, facts = chosen(tiny_checkpoint, load_plan(smooth(tmp_path)))
    assert found.kept == {} and found.mean_kld == found.mean_kld_without > 0
    assert described(facts).startswith("nothing smoothed: no way tried helps by more than a tenth")


def test_what_helps_by_chance_is_not_kept(with_outliers, tmp_path, monkeypatch):
    found, _ = chosen(with_outliers, load_plan(smooth(tmp_path)))
    monkeypatch.setattr(smoothing, "KEPT_BELOW", 0.9 * found.mean_kld / found.mean_kld_without)
    found, _ = chosen(with_outliers, load_plan(smooth(tmp_path)))
    assert found.kept == {}


@pytest.mark.slow
@pytest.mark.parametrize(("target", "plan"), [("tflite-xnnpack", "int8"), ("executorch-xnnpack", "int8"), ("tflite-xnnpack", "int4-gptq")])
def test_exported_proven_and_proven_again(with_outliers, tmp_path, target, plan):
    """The file holds the smoothed weights, since their twin agrees with it; the reference is the checkpoint as it was."""
    said = []
    [plain] = export(with_outliers, tmp_path / "plain", wide(tmp_path, load_plan_file(plan), "plain"), (target,), prove=False)
    before, _ = prove(plain, with_outliers)  # its roundings are so coarse that its twin may be missed by chance
    path = wide(tmp_path, load_plan_file(plan).replace("\n", "\nsmooth = true\n", 1), "smooth")
    [folder] = export(with_outliers, tmp_path / "out", path, (target,), witness=False, say=said.append)
    manifest = read_manifest(folder)
    kept = manifest.calibration.smoothing
    assert kept.kept and any(line.startswith(f"{target}: smoothed (") for line in said)
    assert manifest.cpu.proof.passed and manifest.cpu.proof.all.mean_kld < 0.6 * before.all.mean_kld
    shutil.rmtree(tmp_path / "cache")  # the built-in text is at hand: measured anew, and the same
    again, _ = prove(folder, with_outliers)
    assert again.passed and again.all.mean_kld == manifest.cpu.proof.all.mean_kld
    assert np.isclose(again.twin.mean_kld, manifest.cpu.proof.twin.mean_kld, rtol=0.05)


def wide(tmp_path, text, name):
    """A plan with bounds that random weights keep."""
    path = tmp_path / f"{name}.toml"
    text = re.sub(r"mean_kld = .*", "mean_kld = 5", text)
    text = re.sub(r"p99_kld = .*", "p99_kld = 50", re.sub(r"same_top = .*", "same_top = 0.01", text))
    path.write_text(re.sub(r"magnitude = .*", "magnitude = 0.5", text))
    return path


def test_a_plan_of_floats_is_refused_before_any_work(tiny_checkpoint, tmp_path):
    with pytest.raises(FirstTokenError, match="smooth = true changes nothing for qwen2 by this plan and target"):
        export(tiny_checkpoint, tmp_path / "out", smooth(tmp_path, "fp16"), witness=False)
    assert not list((tmp_path / "out").glob("*/*"))
