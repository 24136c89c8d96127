"""A module in, a proven bundle out: whole or not at all, and every planted fault is caught."""

import json

import numpy as np
import pytest
import torch
from module_subjects import Pictures, Words

import firsttoken
from firsttoken.bundle.manifest import read_manifest
from firsttoken.bundle.module_manifest import is_module_bundle, read_module_manifest
from firsttoken.errors import FirstTokenError, GateError
from firsttoken.module_bundles.export import RANDOM_NOTE, export_source
from firsttoken.module_bundles.prove import prove_bundle
from firsttoken.modules.samples import checked
from firsttoken.modules.sources import open_source


def test_a_bundle_says_what_it_is(bundle):
    manifest = read_module_manifest(bundle)
    assert manifest.precisions == {"first": "int8-weight", "each": "int8-weight", "head": "int8-weight"}
    assert manifest.notes[0] == "conv in int8-weight, not int8: first (NumPy has no kernel that rounds activations)"
    [method] = manifest.artifact.methods
    assert [(one.name, one.file_name, one.shape) for one in method.inputs] == [("picture", "the picture", ["batch", 2, 6, 6])]
    proof = manifest.proof
    assert proof.passed and proof.samples.count == 40 and not proof.samples.random and proof.labelled == 40
    assert 0 < proof.outputs[0].max_error < 0.05 and proof.outputs[0].same_top > 0.94 and 0.97 < proof.outputs[0].magnitude_ratio < 1.03
    assert abs(proof.accuracy - proof.reference_accuracy) <= 0.05


def test_it_is_proven_again(bundle, program, held_out):
    source = open_source(program)
    proof, rows = prove_bundle(bundle, source, checked(source.module, held_out, "held out"))
    assert proof == read_module_manifest(bundle).proof.model_copy(update={"samples": proof.samples}) and len(rows) == 3


def test_another_module(bundle, program, held_out):
    source = open_source(program)
    other = open_source(program)
    with torch.no_grad():
        other.module.program.state_dict["head.bias"] += 1
    from firsttoken.modules.describe import describe_program

    changed = type(source)(describe_program(other.module.program, "other"))
    with pytest.raises(FirstTokenError, match="give the module it was made from"):
        prove_bundle(bundle, changed, checked(changed.module, held_out, "h"))


def fault_of(monkeypatch, change):
    """Plants a fault in what the backend stores."""
    from firsttoken_numpy.modules import NumpyModules

    whole = NumpyModules.lower

    def lower(self, job, path, report=lambda *_: None):
        found = whole(self, job, path, report)
        with np.load(path) as arrays:
            held = {name: arrays[name] for name in arrays.files}
        np.savez(path, **change(held))
        return found

    monkeypatch.setattr(NumpyModules, "lower", lower)


FAULTS = {
    "another size": (lambda held: {**held, "scale/head.weight": held["scale/head.weight"] * 3, "fp32/head.bias": held["fp32/head.bias"] * 3}, "magnitude"),
    "swapped classes": (lambda held: {**held, "int8/head.weight": held["int8/head.weight"][::-1]}, "same class for"),
    "not finite": (lambda held: {**held, "fp32/head.bias": held["fp32/head.bias"] * np.inf}, "that are not finite"),
    "in floats": (
        lambda held: {name: value for name, value in {**held, "fp32/head.weight": held["int8/head.weight"] * held["scale/head.weight"][:, None]}.items() if name != "int8/head.weight"},
        "head: asked int8-weight, stored fp32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults(target, program, held_out, tmp_path, monkeypatch, fault):
    change, said = FAULTS[fault]
    fault_of(monkeypatch, change)
    with pytest.raises(GateError) as rejected:
        export_source(open_source(program), tmp_path / "out", "module-int8", [target], held_out=held_out)
    assert said in str(rejected.value)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.rejected"]


def test_a_failed_export_leaves_the_older_bundle(bundle, target, program, monkeypatch):
    before = (bundle / "manifest.json").read_bytes()
    fault_of(monkeypatch, lambda held: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_source(open_source(program), bundle.parent, "module-int8", [target], force=True)
    assert (bundle / "manifest.json").read_bytes() == before and [path.name for path in bundle.parent.iterdir()] == ["mine"]
    with pytest.raises(FirstTokenError, match="replace it with --force"):
        export_source(open_source(program), bundle.parent, "module-int8", [target])


def test_without_samples_it_is_said(target, program, tmp_path):
    said = []
    [folder] = export_source(open_source(program), tmp_path / "out", "module-fp32", [target], say=said.append)
    assert said[0] == RANDOM_NOTE and read_module_manifest(folder).proof.samples.random


@pytest.mark.parametrize(
    ("plan", "targets", "said"),
    [
        ("module-int8-static", ["tflite-xnnpack"], "there are no samples; give some with --samples"),
        ("module-int8", ["litertlm-cpu"], "takes decoders alone; a module goes to executorch-xnnpack, tflite-xnnpack"),
        ("int8", ["tflite-xnnpack"], "is for decoders, and this is a module"),
    ],
)
def test_refused_before_any_work(program, tmp_path, plan, targets, said):
    with pytest.raises(FirstTokenError) as refused:
        export_source(open_source(program), tmp_path / "out", plan, targets)
    assert said in str(refused.value) and not (tmp_path / "out").exists()


def test_no_calibrated_ranges_where_they_ruin(tmp_path):
    example = (torch.randint(0, 50, (2, 12)), torch.ones(2, 12))
    with pytest.raises(FirstTokenError, match="but words has attention .*: calibrated ranges cost"):
        firsttoken.export_module(Words(), example, tmp_path / "out", plan="module-int8-static", name="words")


def test_from_python(target, tmp_path):
    [folder] = firsttoken.export_module(
        Pictures(), torch.zeros(1, 2, 6, 6), tmp_path / "out", targets=target, plan="module-fp16", labels=("a", "b", "c"), name="mine"
    )
    manifest = read_module_manifest(folder)
    assert manifest.labels == ["a", "b", "c"] and manifest.module.name == "mine" and set(manifest.precisions.values()) == {"fp16"}
    with pytest.raises(FirstTokenError, match="example is missing"):
        firsttoken.export_module(Pictures(), output=tmp_path / "other")


def test_verbs_of_decoders_say_what_it_is(bundle):
    assert is_module_bundle(bundle)
    with pytest.raises(FirstTokenError, match="is a module's .*`firsttoken prove` and `bench` take it"):
        read_manifest(bundle)


def test_a_damaged_manifest(bundle):
    values = json.loads((bundle / "manifest.json").read_text())
    values["files"]["../x"] = values["files"]["model.npz"]
    (bundle / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(FirstTokenError, match="is not a plain, printable name"):
        read_module_manifest(bundle)


def test_a_decomposed_program_has_no_layer_that_a_plan_can_name(tmp_path):
    """Its products are of bare parameters: what was asked as INT8 would be written as FP32, and proven."""
    from firsttoken.modules.describe import describe_program

    program = torch.export.export(Pictures().eval(), (torch.randn(2, 2, 6, 6),)).run_decompositions()
    source = type(open_source(_saved(tmp_path)))(describe_program(program, "bare"))
    with pytest.raises(FirstTokenError, match=r"none of its \d+ weights .* is in a layer that a plan can name, so all would stay FP32"):
        export_source(source, tmp_path / "out", targets=["executorch-xnnpack"])
    assert not (tmp_path / "out").exists()


def _saved(folder):
    from module_subjects import picture_program

    return picture_program(folder / "pictures.pt2")
