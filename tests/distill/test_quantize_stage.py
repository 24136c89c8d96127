"""The quantization stage: proven first, trained only where the gate is missed or it is forced, kept only where it helps."""

import json
import shutil

import pytest
from safetensors.torch import load_file

from firsttoken.bundle.lineage import proof_reference, read_lineage
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.distill.distill import distill
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.prove.prove import prove

PLAN = """
summary = "test"
group_size = 32
[[rule]]
match = "layers.*.attention.core"
precision = "fp32"
[[rule]]
match = "embedding"
precision = "int8"
[[rule]]
match = "*"
precision = "int4"
[gate]
mean_kld = {mean}
p99_kld = {p99}
same_top = {top}
magnitude = 0.5
"""


@pytest.fixture
def plans(tmp_path):
    """Paths of one int4 plan with a gate that nothing misses, and one that nothing passes."""
    loose, tight = tmp_path / "loose.toml", tmp_path / "tight.toml"
    loose.write_text(PLAN.format(mean=100, p99=100, top=0.001))
    tight.write_text(PLAN.format(mean=1e-9, p99=1e-9, top=1.0))
    return {"loose": str(loose), "tight": str(tight)}


def quantized(make_recipe, plan, **changes):
    settings = {"plan": plan, "steps": 30, "learning_rate": 1e-3, "cache_length": 64, **changes}
    return make_recipe({"student": {"cut": {"intermediate_size": 64}}, "quantize": settings, "training.batch": 4})


def record_of(folder):
    return json.loads((folder / "distillation.json").read_text())


def test_a_student_that_passes_its_proof_is_not_trained_again(make_recipe, plans, tmp_path):
    lines = []
    out = distill(quantized(make_recipe, plans["loose"]), tmp_path / "student", say=lines.append)
    found = record_of(out)["quantization"]
    assert found["kept"] == "float student" and found["before"]["passed"] and "after" not in found
    assert not (out / "float").exists() and any("not needed" in line for line in lines)
    assert (out / "held_out.txt").exists()


@pytest.mark.parametrize("target", ["tflite-xnnpack", pytest.param("executorch-xnnpack", marks=pytest.mark.slow)])
def test_a_missed_gate_is_trained_for_and_the_bundle_comes_closer_to_the_float_student(make_recipe, plans, tmp_path, target):
    lines = []
    out = distill(quantized(make_recipe, plans["tight"], target=target), tmp_path / "student", say=lines.append)
    record = record_of(out)
    before, after = (record["quantization"][which]["figures"]["mean_kld"] for which in ("before", "after"))
    assert after < 0.85 * before, (before, after)
    assert record["quantization"]["kept"] == "student trained for quantization"
    assert any("quantization-aware training: 30 steps" in line for line in lines)
    assert "quantization-aware training" in (out / "training.html").read_text(encoding="utf-8")
    # what the user exports is proven against the float student, and is what the stage measured
    with Checkpoint(out) as checkpoint:
        lineage = read_lineage(checkpoint)
        assert proof_reference(checkpoint).folder == out / "float" and lineage.reference == record["float student"]
    [bundle] = export(out, tmp_path / "bundles", plans["loose"], (target,), cache_length=64)
    manifest = read_manifest(bundle)
    assert manifest.cpu.proof.all.mean_kld == pytest.approx(after, rel=1e-3) and manifest.lineage == lineage
    assert prove(bundle, out)[0].all.mean_kld == pytest.approx(after, rel=1e-3)
    shutil.rmtree(out / "float")
    with pytest.raises(FirstTokenError, match="its float student is absent"):
        prove(bundle, out)


def test_it_can_be_forced_and_is_not_kept_where_it_does_not_help(make_recipe, plans, tmp_path):
    lines = []
    recipe = quantized(make_recipe, plans["loose"], when="always", learning_rate=0.5, steps=3)
    out = distill(recipe, tmp_path / "student", say=lines.append)
    found = record_of(out)["quantization"]
    assert found["after"]["figures"]["mean_kld"] > found["before"]["figures"]["mean_kld"] and found["kept"] == "float student"
    assert any("did not help; the float student is kept" in line for line in lines) and not (out / "float").exists()


@pytest.mark.slow
def test_an_interrupted_stage_goes_on_to_the_same_student(make_recipe, plans, tmp_path, monkeypatch):
    from firsttoken.distill import quantize_stage

    recipe = quantized(make_recipe, plans["tight"], steps=4)
    whole = distill(recipe, tmp_path / "whole")
    finish = quantize_stage.write_after

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(quantize_stage, "write_after", killed)
    with pytest.raises(KeyboardInterrupt):
        distill(recipe, tmp_path / "parts")
    assert not (tmp_path / "parts").exists()
    monkeypatch.setattr(quantize_stage, "write_after", finish)
    parts = distill(recipe, tmp_path / "parts")
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_two_processes_train_for_quantization_as_one_does(make_recipe, plans, tmp_path, torchrun):
    recipe = quantized(make_recipe, plans["tight"], steps=4)
    said = torchrun(recipe, tmp_path / "two")
    assert said.count("quantization-aware training: 4 steps") == 1  # the first process alone speaks
    one = distill(recipe, tmp_path / "one")
    found, wanted = (record_of(folder)["quantization"] for folder in (tmp_path / "two", one))
    assert found["kept"] == wanted["kept"] == "student trained for quantization"
    for which in ("before", "after"):
        assert found[which]["figures"]["mean_kld"] == pytest.approx(wanted[which]["figures"]["mean_kld"], rel=0.01)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "two", one))
    for name, tensor in theirs.items():
        difference = (ours[name] - tensor).abs()
        assert difference.max() < 5e-3 and difference.mean() < 2e-5, (name, difference.max(), difference.mean())


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"plan": "int9"}, "plan 'int9' is unknown .did you mean 'int8'"),
        ({"target": "tflite-compat"}, "int4 is not possible for"),
        ({"when": "allways"}, "quantize.when is 'allways'.*did you mean 'always'"),
        ({"cache_length": 1 << 19}, "longer than the 2048 positions"),
    ],
)
def test_mistakes_are_found_before_any_training(make_recipe, plans, tmp_path, changes, message):
    settings = {"plan": plans["tight"], "steps": 1, "cache_length": 64, **changes}
    with pytest.raises(FirstTokenError, match=message):
        distill(make_recipe({"quantize": settings}), tmp_path / "student")
    assert not (tmp_path / "student.work").exists()


def test_weights_that_were_changed_since_have_no_lineage(make_recipe, tmp_path):
    out = distill(make_recipe({"training.steps": 1}), tmp_path / "student")
    with Checkpoint(out) as checkpoint:
        lineage = read_lineage(checkpoint)
        assert lineage.recipe == "tiny" and lineage.tokens_seen == 4 * 32 and set(lineage.teachers) == {"teacher 0"}
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"note": 1}))
    with Checkpoint(out) as checkpoint:
        assert read_lineage(checkpoint) is None
    (out / "distillation.json").write_text("{}")
    with Checkpoint(out) as checkpoint:
        assert read_lineage(checkpoint) is None
        (out / "distillation.json").write_text(json.dumps({"student": checkpoint.fingerprint()}))
        with pytest.raises(FirstTokenError, match="not a record of `firsttoken distill`"):
            read_lineage(checkpoint)
