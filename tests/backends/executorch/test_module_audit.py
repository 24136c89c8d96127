"""The audit of a module's .pte: it says what was asked where that is so, and notices what was changed."""

from dataclasses import replace

import pytest
from executorch_tiny_modules import tiny_files as tiny_files

from firsttoken.backends.executorch.module_audit import audit_module, missed
from firsttoken.backends.executorch.module_file import read_uses
from firsttoken.errors import FirstTokenError

pytestmark = pytest.mark.slow

INT8 = {"linear": "int8", "conv": "int8", "embedding": "int8-weight", "lstm": "int8"}
STATIC = {"linear": "int8-static", "conv": "int8-static", "depthwise": "int8-static"}


def rows_of(found):
    path, lowered, job = found
    return {row.layer: row for row in audit_module(path, lowered, job.layers, job.precisions)}


def test_rows_of_every_kind(tiny_files):
    images, tokens = rows_of(tiny_files.lower("images", **INT8)), rows_of(tiny_files.lower("tokens", **INT8))
    depthwise = ("deep", "stem")  # a convolution of one input channel is one, too
    assert {(row.stored, row.computed, row.delegated) for name, row in images.items() if name not in depthwise} == {("int8", "int8", True)}
    assert {(images[name].stored, images[name].computed, images[name].delegated) for name in depthwise} == {("fp32", "fp32", True)}
    assert (tokens["table"].stored, tokens["table"].computed, tokens["table"].delegated) == ("int8", "fp32", False)
    assert (tokens["core"].stored, tokens["core"].computed, tokens["core"].delegated) == ("fp32", "fp32", True)
    assert tokens["query"].computed == "int8"
    assert rows_of(tiny_files.lower("recurrent", **INT8))["lstm"].computed == "int8"
    mixed = rows_of(tiny_files.lower("tokens", linear="int4", up="fp16", embedding="fp16", core="fp16"))
    assert (mixed["down"].stored, mixed["key"].stored, mixed["down"].computed) == ("int4/32", "int4/row", "int4")
    assert (mixed["up"].stored, mixed["up"].computed, mixed["core"].computed, mixed["table"].stored) == ("fp16",) * 4


def test_calibrated_scales_are_those_of_the_file(tiny_files):
    path, lowered, job = tiny_files.lower("images", **STATIC)
    rows = rows_of((path, lowered, job))
    assert all(len(row.scales) == 2 and row.computed == "int8" for row in rows.values())
    facts = dict(lowered.layers)
    facts["deep"] = {**facts["deep"], "input": {**facts["deep"]["input"], "scale": facts["deep"]["input"]["scale"] * 1.01}}
    with pytest.raises(FirstTokenError, match="'deep' has scales and zero points"):
        audit_module(path, replace(lowered, layers=facts), job.layers, job.precisions)


def test_another_precision_is_noticed(tiny_files):
    path, lowered, job = tiny_files.lower("images", **INT8)
    kinds = {layer.name: layer.kind for layer in job.layers}
    asked = dict.fromkeys(job.precisions, "fp32")
    lines = missed(audit_module(path, lowered, job.layers, asked), kinds)
    assert "point: asked fp32, stored int8" in lines and not any(line.startswith("deep") for line in lines)
    path, lowered, job = tiny_files.lower("images", **STATIC)
    asked = dict.fromkeys(job.precisions, "int8")
    assert "stem: asked int8, computed in int8 (rounded to fixed ranges)" in missed(audit_module(path, lowered, job.layers, asked), kinds)


def test_changed_weights_and_scales_are_noticed(tmp_path, tiny_files):
    path, lowered, job = tiny_files.lower("tokens", **INT8)
    content, changed = path.read_bytes(), tmp_path / "changed.pte"
    key = lowered.layers["up"]["keys"][0]
    assert key in {use.key for use in read_uses(path)}
    place = content.rindex(job_rows(job, "up"))
    changed.write_bytes(content[: place + 100] + bytes([content[place + 100] ^ 1]) + content[place + 101 :])
    with pytest.raises(FirstTokenError, match="the bytes of its constant .* were changed"):
        audit_module(changed, lowered, job.layers, job.precisions)


def job_rows(job, name):
    """The first rows of a layer as the file has them."""
    import torch
    from torchao.quantization import IntxUnpackedToInt8Tensor

    weight = job.module.program.state_dict[f"{name}.weight"].detach()
    return IntxUnpackedToInt8Tensor.from_hp(weight, (1, weight.shape[1]), torch.int8).qdata[:4].numpy().tobytes()


def test_another_modules_file_is_refused(tmp_path, tiny_files):
    _, lowered, job = tiny_files.lower("tokens", **INT8)
    other, _, _ = tiny_files.lower("images", **INT8)
    with pytest.raises(FirstTokenError, match="no operator has the weights of layer 'table'|softmaxes between two products"):
        audit_module(other, lowered, job.layers, job.precisions)
    cut = tmp_path / "cut.pte"
    cut.write_bytes(other.read_bytes()[:4000])
    with pytest.raises(FirstTokenError, match=r"not a \.pte of a module|were changed"):
        audit_module(cut, lowered, job.layers, job.precisions)
