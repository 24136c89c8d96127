"""From a checkpoint of integers to files that hold these integers, on both runtimes, and what is said where they cannot."""

import json
import re

import gguf
import numpy as np
import pytest
import torch
from compressed_folders import compress_folder, scheme_of
from lowering_jobs import lowering_job
from safetensors.torch import load_file, save_file

from firsttoken.backends.executorch.quantize import read_quantized
from firsttoken.backends.tflite import weights as tflite_weights
from firsttoken.backends.tflite.model_file import ModelFile
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint_sources.open import open_checkpoint
from firsttoken.declarations import declaration_folder
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.errors import FirstTokenError, GateError
from firsttoken.pipeline import export
from firsttoken.prove.prove import prove
from firsttoken.quant.plan import Plan, load_plan
from firsttoken.quantized.kept import KeptCheckpoint, with_kept
from firsttoken.quantized.stored_plan import for_checkpoint

LAYERS = ("layers.0.attention.k", "layers.1.mlp.gate", "layers.1.mlp.down")


def kept(folder, plan: str | Plan = "as-stored"):
    source = open_checkpoint(folder)
    decoder = open_decoder(source)
    chosen = for_checkpoint(load_plan(plan) if isinstance(plan, str) else plan, source, decoder)
    job = lowering_job(source, chosen, "tflite-xnnpack")
    return *with_kept(source, decoder, chosen, job.precisions), decoder, chosen, job.precisions


def stored_by_both(made, layer, precision, group):
    """Integers and scales ``[rows, groups]`` of a layer as each runtime's file holds them."""
    values, scales = read_quantized(made, layer, precision, group)
    weight = tflite_weights.Weight(ModelFile("x"), made, layer, precision, group)
    stored = np.concatenate(list(weight._chunks()))
    if precision == "int4":
        halves = np.stack((stored & 15, stored >> 4), 2).reshape(values.shape).astype(np.int8)
        stored = np.where(halves > 7, halves - 16, halves)
    theirs = weight.group_scales.astype(np.float32) if weight.grouped else weight.scales[:, None]
    return (values.numpy(), scales.numpy()), (stored, theirs)


def own_integers(folder, name, bits):
    """The integers of a packed weight, by the library that packed it."""
    from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32

    tensors = load_file(folder / "model.safetensors")
    shape = torch.Size(tensors[f"{name}_shape"].tolist())
    return unpack_from_int32(tensors[f"{name}_packed"], bits, shape).numpy()


@pytest.mark.parametrize(
    ("bits", "group", "dtype"), [(4, 32, torch.bfloat16), (4, 32, torch.float16), (4, None, torch.bfloat16), (8, None, torch.float32)]
)
def test_both_runtimes_store_the_integers_of_the_checkpoint(tiny_model, tmp_path, bits, group, dtype):
    compress_folder(tiny_model, tmp_path / "model", scheme_of(bits, group), dtype)
    made, decision, decoder, plan, precisions = kept(tmp_path / "model")
    assert isinstance(made, KeptCheckpoint) and sum(len(fact.layers) for fact in decision.facts) == 14
    layers = {layer.name: layer for layer in plan_layers(decoder)}
    for name in LAYERS:
        layer = layers[name]
        assert (precisions[name], plan.group(name, layer.shape[1])) == (f"int{bits}", group or layer.shape[1])
        expected = own_integers(tmp_path / "model", layer.weight.name, bits)
        given = made.base.stored_scales(layer.weight)
        for integers, scales in stored_by_both(made, layer, precisions[name], group):
            assert np.array_equal(integers, expected), name
            exact = dtype == torch.bfloat16 or group is None  # float16 has three more digits than bfloat16
            assert np.array_equal(scales, given) if exact else np.abs(scales / given - 1).max() < 2.0**-8
    assert (decision.facts[0].scale_change > 0) == (dtype == torch.float16 and group is not None)


def test_a_lattice_of_rows_is_one_of_groups(tiny_model, tmp_path):
    compress_folder(tiny_model, tmp_path / "model", scheme_of(4, None), torch.bfloat16)
    made, decision, decoder, _, precisions = kept(tmp_path / "model", "int4")
    layer = next(layer for layer in plan_layers(decoder) if layer.name == LAYERS[1])
    for integers, scales in stored_by_both(made, layer, precisions[layer.name], 32):
        assert np.array_equal(integers, own_integers(tmp_path / "model", layer.weight.name, 4))
        assert np.array_equal(scales, made.base.stored_scales(layer.weight).repeat(2, 1))
    assert "14 layers keep their integers as they are stored (compressed-tensors: int4 rows)" in decision.lines[0]


@pytest.mark.parametrize(
    ("bits", "group", "plan", "message"),
    [
        (4, 32, "int8", "14 layers .* are stored as compressed-tensors: int4 in groups of 32, but plan 'int8' rounds them to int8 again; --plan as-stored keeps"),
        (8, 32, "as-stored", "int8 in groups of 32, but no kernel has int8 in groups: plan 'as-stored' rounds them to int8 again, fp16 keeps 11 bits"),
        (4, 16, "as-stored", "int4 in groups of 16, but no kernel has groups of 16: plan 'as-stored' rounds them to int8 again, fp16 keeps 11 bits"),
        (8, None, "int4", "int8 rows, but plan 'int4' rounds them to int4 in groups of 32 again"),
        (4, 32, "int4-gptq", "method \"gptq\" chooses other integers; leave the method out"),
    ],
)  # fmt: skip
def test_what_is_rounded_again_is_said(tiny_model, tmp_path, bits, group, plan, message):
    compress_folder(tiny_model, tmp_path / "model", scheme_of(bits, group), torch.bfloat16)
    made, decision, *_ = kept(tmp_path / "model", plan)
    assert not isinstance(made, KeptCheckpoint) and not decision.facts
    assert len(decision.lines) == 1 and re.search(message, decision.lines[0]), decision.lines


def test_floats_say_nothing(tiny_model):
    for plan in ("int4", "as-stored", "fp16"):
        made, decision, _, chosen, _ = kept(tiny_model, plan)
        assert type(made).__name__ == "Checkpoint" and not decision.lines and chosen == load_plan(plan)


def unpacked(source, output, kind="Q4_0", dtype=torch.bfloat16, change=lambda weight: weight):
    """A folder whose layers llama.cpp's own package rounded and that was saved as floats, as Gemma's unquantized QAT weights are."""
    import shutil

    shutil.copytree(source, output)
    number, tensors = gguf.GGMLQuantizationType[kind], load_file(source / "model.safetensors")
    for name, weight in tensors.items():
        if weight.ndim == 2 and "embed_tokens" not in name:
            rounded = gguf.quants.dequantize(gguf.quants.quantize(change(weight.float().numpy()), number), number)
            tensors[name] = torch.from_numpy(rounded.astype(np.float32)).to(dtype)
    save_file(tensors, output / "model.safetensors", {"format": "pt"})
    return output


def test_weights_trained_for_q4_0_and_saved_as_floats(tiny_model, tmp_path):
    """Where the scale is positive the integers are Q4_0's own; where it is negative, the largest weight of a group loses something."""
    made, decision, decoder, chosen, precisions = kept(unpacked(tiny_model, tmp_path / "model"))
    [fact] = decision.facts
    assert fact.form == "floats on a lattice" and len(fact.layers) == 14 and chosen.group("layers.1.mlp.gate", 64) == 32
    assert 0.3 < fact.inexact_groups / fact.groups < 0.7 and "negative scale and the integer -8" in decision.lines[0]
    layer = next(layer for layer in plan_layers(decoder) if layer.name == LAYERS[1])
    original = load_file(tiny_model / "model.safetensors")[layer.weight.name].float().numpy()
    blocks = gguf.quants.quantize(original, gguf.GGMLQuantizationType.Q4_0).reshape(-1, 18)
    theirs = blocks[:, :2].copy().view(np.float16).astype(np.float32).reshape(-1)
    nibbles = np.concatenate((blocks[:, 2:] & 15, blocks[:, 2:] >> 4), 1).astype(np.int8) - 8
    exact, rows = theirs > 0, made.rows(layer.weight).reshape(-1, 32)
    for integers, scales in stored_by_both(made, layer, precisions[layer.name], 32):
        assert np.array_equal(integers.reshape(-1, 32)[exact], nibbles[exact]) and 0.3 < exact.mean() < 0.7
        error = np.abs(integers.reshape(-1, 32) * scales.reshape(-1, 1) - rows).max(1) / np.abs(theirs)
        assert error[exact].max() < 0.05 and error[~exact].max() < 1.2  # steps


def test_a_negative_scale_is_turned_where_it_can_be(tmp_path):
    """Blocks whose largest weight is positive have a negative scale; without an integer -8, negating all is exact."""
    from firsttoken.quantized.fit import fitted

    integers = np.tile(np.arange(-7, 8, dtype=np.float32), 3)[None, :32]
    scales = np.array([[-0.25]], np.float32)
    found, inexact = fitted(integers * scales[0, 0], scales, "int4", True)
    assert np.array_equal(found, [[0.25]]) and not inexact.any()
    found, inexact = fitted(np.where(integers == 7, -8, integers) * scales[0, 0], scales, "int4", True)
    assert inexact.all() and 0.2 < found[0, 0] < 0.31


def test_int8_integers_that_old_kernels_add_up_wrongly(tiny_model, tmp_path):
    """Two -128 in a row: their products with -128 run over 16 bits. That row is rounded anew, and it is said; once is kept."""
    compress_folder(tiny_model, tmp_path / "model", scheme_of(8, None), torch.float32)
    tensors = load_file(tmp_path / "model/model.safetensors")
    name = "model.layers.0.self_attn.k_proj.weight"
    tensors[f"{name}_packed"][:] = 0x01010101  # -127 everywhere
    tensors[f"{name}_packed"][0, 0], tensors[f"{name}_packed"][1, 0] = 0x01010100, 0x01000101
    tensors[f"{name}_packed"][2, 0] = 0x01000100
    save_file(tensors, tmp_path / "model/model.safetensors")
    made, decision, decoder, _, precisions = kept(tmp_path / "model")
    assert len(decision.facts[0].layers) == 14 and decision.facts[0].inexact_groups >= 1
    assert re.search(r"[0-9]+ of their 896 rows have the integer -128 twice", decision.lines[0]) is not None, decision.lines
    layer = next(layer for layer in plan_layers(decoder) if layer.name == "layers.0.attention.k")
    for integers, scales in stored_by_both(made, layer, precisions[layer.name], None):
        assert integers[0, 0] == integers[1, 2] == -128 and (integers[0:2] == -128).sum() == 2 and (integers[3:] == -127).all()
        assert integers[2].min() == -127 and np.abs(integers[2] * scales[2] - made.rows(layer.weight, 2, 3)).max() <= scales[2] / 2


def test_an_adapter_takes_its_weights_off_the_lattice(tiny_model, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    compress_folder(tiny_model, tmp_path / "model", scheme_of(4, 32))
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model), LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    )
    tuned.save_pretrained(tmp_path / "adapter")
    with open_checkpoint(tmp_path / "model", tmp_path / "adapter") as merged:
        assert any("adapter changes 2 weights that are stored as integers" in line for line in merged.remarks)
        decoder = open_decoder(merged)
        plan = load_plan("int4")
        _, decision = with_kept(merged, decoder, plan, lowering_job(merged, plan, "tflite-xnnpack").precisions)
        assert len(decision.facts[0].layers) == 12 and not any("attention.q" in layer for layer in decision.facts[0].layers)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["tflite-xnnpack", "executorch-xnnpack"])
def test_exported_proven_and_proven_again(tiny_model, tmp_path, target):
    compress_folder(tiny_model, tmp_path / "model", scheme_of(4, 32))
    said = []
    [folder] = export(tmp_path / "model", tmp_path / "out", "as-stored", (target,), witness=False, say=said.append)
    manifest = read_manifest(folder)
    assert manifest.cpu.proof.passed and manifest.cpu.proof.all.mean_kld < 1e-3
    assert [(fact.form, len(fact.layers), fact.inexact_groups, fact.scale_change) for fact in manifest.kept] == [
        ("compressed-tensors", 14, 0, 0)
    ]
    assert {row.integers for row in manifest.cpu.audit if row.asked.startswith("int4")} == {"compressed-tensors"}
    assert any("14 layers keep their integers as they are stored" in line for line in said)
    again, _ = prove(folder, tmp_path / "model")
    assert again.passed and again.all.mean_kld == manifest.cpu.proof.all.mean_kld


@pytest.mark.slow
def test_a_file_that_rounds_again_is_not_its_twin(tiny_model, tmp_path, monkeypatch):
    unpacked(tiny_model, tmp_path / "model")
    plain = tflite_weights.quantize_int4
    monkeypatch.setattr(tflite_weights, "quantize_int4", lambda rows, group, scales=None: plain(rows, group))
    with pytest.raises(GateError, match="not built as the plan says"):
        export(tmp_path / "model", tmp_path / "out", "as-stored", witness=False)


def test_a_target_without_groups_says_what_to_do(tiny_model, tmp_path):
    compress_folder(tiny_model, tmp_path / "model", scheme_of(4, 32))
    with open_checkpoint(tmp_path / "model") as source:
        decoder = open_decoder(source)
        plan = for_checkpoint(load_plan("as-stored"), source, decoder)
        with pytest.raises(
            FirstTokenError,
            match="would keep what the checkpoint stores, int4.*, which target .* does not take; give a plan that it takes and .*: ",
        ) as caught:
            lowering_job(source, plan, "tflite-hexagon-sm8550")
        named = str(caught.value).rpartition(": ")[2].split(", ")
        assert {"fp16-attention", "int4-npu"} <= set(named) and not {"int8", "as-stored"} & set(named)
        for name in named:
            lowering_job(source, load_plan(name), "tflite-hexagon-sm8550")  # it does take them


def test_a_copy_of_as_stored_for_hexagon(tiny_model, tmp_path):
    """As docs/quantized-checkpoints.md says: rows are taken, the plan's FP32 cores are not."""
    compress_folder(tiny_model, tmp_path / "model", scheme_of(4, None))
    text = (declaration_folder("quant") / "as-stored.toml").read_text()
    (tmp_path / "copy.toml").write_text(text.replace('precision = "fp32"', 'precision = "fp16"'))
    with open_checkpoint(tmp_path / "model") as source:
        decoder = open_decoder(source)
        own, copy = (for_checkpoint(load_plan(name), source, decoder) for name in ("as-stored", tmp_path / "copy.toml"))
        with pytest.raises(FirstTokenError, match="fp32 is not possible for 'layers.0.attention.core'"):
            lowering_job(source, own, "tflite-hexagon-sm8550")
        assert lowering_job(source, copy, "tflite-hexagon-sm8550").precisions["layers.0.attention.q"] == "int4"


def test_only_the_layers_that_have_integers_get_their_rule(tiny_model, tmp_path):
    compress_folder(tiny_model, tmp_path / "model", scheme_of(4, 32))
    tensors = load_file(tmp_path / "model/model.safetensors")
    stem = "model.layers.1.mlp.down_proj.weight"
    for part in ("packed", "scale", "shape"):
        tensors.pop(f"{stem}_{part}")
    tensors[stem] = load_file(tiny_model / "model.safetensors")[stem]
    save_file(tensors, tmp_path / "model/model.safetensors")
    *_, plan, precisions = kept(tmp_path / "model")
    assert precisions["layers.1.mlp.down"] == "int8" and precisions["layers.0.mlp.down"] == "int4" and precisions["embedding"] == "int8"
    assert [rule.match for rule in plan.rules if "down" in rule.match] == ["layers.0.mlp.down"]
    assert json.loads(plan.model_dump_json(by_alias=True))["rule"][-1]["method"] == "stored"
