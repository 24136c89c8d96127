"""A plan as a GGUF file: every tensor's type and numbers, what is refused, the bundle around it, and the file as a checkpoint again."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from families_on_disk import random_model, save
from gguf_fixtures import end_token, on_disk, write_words
from lowering_jobs import lowered_artifact

from firsttoken.backends.gguf import lower as module
from firsttoken.backends.registry import find_backend, resolve
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.gguf_file.header import read_header
from firsttoken.pipeline import export
from firsttoken.quant.plan import load_plan
from firsttoken.targets.target import load_target

PLAN = """
summary = "of everything"
group_size = 32
[[rule]]
match = "*.core"
precision = "fp16"
[[rule]]
match = "layers.*.mlp.*"
precision = "int4"
[[rule]]
match = "layers.0.attention.*"
precision = "fp16"
[[rule]]
match = "layers.1.attention.q"
precision = "fp32"
[[rule]]
match = "*"
precision = "int8"
[gate]
mean_kld = 1.0
p99_kld = 5.0
same_top = 0.1
magnitude = 0.5
"""
MOST = {"fp32": 0.0, "fp16": 2**-11, "int8": 1 / 254 + 2**-11, "int4": 1 / 8 + 2**-11}  # of a block's largest weight


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The demo checkpoint in a plan of every precision, without the proof, which needs llama.cpp."""
    folder = tmp_path_factory.mktemp("gguf")
    (folder / "mixed.toml").write_text(PLAN)
    [made] = export(checkpoint_path(), folder / "out", folder / "mixed.toml", ("gguf",), prove=False)
    return made


def test_types_and_numbers_are_the_plans(bundle):
    """Read with the package gguf, not with ours: each tensor's type by the plan, its numbers the checkpoint's within what its type can hold."""
    manifest = read_manifest(bundle)
    reader = gguf.GGUFReader(bundle / "model.gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    asked = {"token_embd": "int8", "blk.0.attn_v": "fp16", "blk.1.attn_q": "fp32", "blk.1.attn_k": "int8", "blk.3.ffn_down": "int4"}
    for name, precision in asked.items():
        assert tensors[f"{name}.weight"].tensor_type.name == {"fp32": "F32", "fp16": "F16", "int8": "Q8_0", "int4": "Q4_0"}[precision]
    assert "output.weight" not in tensors  # the head is the embedding
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, 4)
    with Checkpoint(checkpoint_path()) as checkpoint:
        assert {names.get_name(name, (".weight", ".bias")) for name in checkpoint.tensors} == set(tensors)
        for name in checkpoint.tensors:
            tensor = tensors[names.get_name(name, (".weight", ".bias"))]
            read = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(-1)
            wanted = checkpoint.rows(name).reshape(-1)
            precision = {"F32": "fp32", "F16": "fp16", "Q8_0": "int8", "Q4_0": "int4"}[tensor.tensor_type.name]
            largest = np.abs(wanted).reshape(-1, 32).max(1).repeat(32)
            assert (np.abs(read - wanted) <= MOST[precision] * largest).all(), name
    assert reader.fields["general.architecture"].contents() == "qwen2" and reader.fields["firsttoken.plan"].contents() == "mixed"
    assert reader.fields["firsttoken.checkpoint"].contents() == manifest.checkpoint.fingerprint
    assert (
        manifest.packages["gguf"]
        and manifest.cpu.backend == "gguf-llamacpp"
        and {state.dtype for state in manifest.cpu.states} == {"float16"}
    )


def test_the_audit_reads_the_file(bundle, tmp_path):
    backend, plan = find_backend("gguf-llamacpp"), read_manifest(bundle).plan
    with Checkpoint(checkpoint_path()) as checkpoint:
        decoder = open_decoder(checkpoint)
    asked = plan.written(plan_layers(decoder), resolve(plan, decoder, load_target("gguf")))
    rows = backend.audit(bundle / "model.gguf", decoder, asked)
    assert [row.layer for row in rows] == list(asked) and all(row.stored == row.asked for row in rows)
    assert {row.stored for row in rows} == {"fp32", "fp16", "int8", "int4/32"}
    others = backend.audit(export_of(tmp_path, "int8") / "model.gguf", decoder, asked)
    assert {(row.asked, row.stored) for row in others if row.asked != row.stored} == {
        ("fp16", "int8"),
        ("fp32", "int8"),
        ("int4/32", "int8"),
        ("fp16", "fp32"),
    }


def export_of(folder: Path, plan: str) -> Path:
    [made] = export(checkpoint_path(), folder, plan, ("gguf",), prove=False)
    return made


def test_it_is_a_checkpoint_again(bundle, tmp_path):
    """Exported, and exported again: the same words, the numbers that the first file holds, and a tokenizer that cuts alike."""
    from firsttoken.tokenizer import Tokenizer

    [again] = export(bundle / "model.gguf", tmp_path, "fp32", ("tflite-xnnpack",), prove=False)
    text = (checkpoint_path().parent / "held_out.txt").read_text()[:2000]
    assert Tokenizer(again).encode(text) == Tokenizer(bundle).encode(text)
    first, second = read_manifest(bundle), read_manifest(again)
    assert (first.tokenizer.end, first.tokenizer.begin, first.chat) == (second.tokenizer.end, second.tokenizer.begin, second.chat)
    assert first.checkpoint.parameters == second.checkpoint.parameters


def test_a_second_export_is_the_same_file(bundle, tmp_path):
    (tmp_path / "mixed.toml").write_text(PLAN)
    [other] = export(checkpoint_path(), tmp_path / "out", tmp_path / "mixed.toml", ("gguf",), prove=False)
    assert (other / "model.gguf").read_bytes() == (bundle / "model.gguf").read_bytes()


def test_sizes_are_estimated(bundle):
    backend, plan = find_backend("gguf-llamacpp"), read_manifest(bundle).plan
    with Checkpoint(checkpoint_path()) as checkpoint:
        decoder = open_decoder(checkpoint)
    found = backend.estimate(decoder, resolve(plan, decoder, load_target("gguf")), load_target("gguf"), False)
    size = (bundle / "model.gguf").stat().st_size
    assert size <= found.disk <= 1.6 * size


def rules(*pairs: tuple[str, str], **more) -> str:
    gate = "[gate]\nmean_kld = 1.0\np99_kld = 5.0\nsame_top = 0.1\nmagnitude = 0.5\n"
    head = "".join(f"{key} = {json.dumps(value)}\n" for key, value in more.items())
    return (
        f'summary = "x"\n{head}' + "".join(f'[[rule]]\nmatch = "{match}"\nprecision = {precision}\n' for match, precision in pairs) + gate
    )


@pytest.mark.parametrize(
    ("case", "changes", "plan", "said"),
    [
        ("qwen2", {}, rules(("layers.0.attention.core", '"fp16"'), ("*.core", '"fp32"'), ("*", '"int8"')), "one precision for the whole KV cache, and 'layers.0.attention.core' has fp16 and"),
        ("qwen2", {}, rules(("*.core", '"fp32"'), ("layers.*", '"int4"\ngroup = "row"'), ("*", '"int8"')), "one scale for 32 columns, and .* would have one for row; nearest: group = 32"),
        ("smollm", {"hidden_size": 80, "num_attention_heads": 5}, rules(("*.core", '"fp32"'), ("*", '"int8"')), "in blocks of 32 columns, and 'embedding' has 80; put a rule for it with fp16"),
        ("phi3", {"sliding_window": None}, rules(("*.core", '"fp32"'), ("*.attention.q", '"fp16"'), ("*", '"int8"')), r"'layers.0.attention.q' and 'layers.0.attention.k' are one tensor .*\(blk.0.attn_qkv\), and would be fp16 and int8"),
        ("gemma", {}, rules(("*.core", '"fp32"'), ("embedding", '"fp16"'), ("*", '"int8"')), r"'embedding' and 'head' are one tensor in llama.cpp's 'gemma'"),
        ("qwen2", {}, rules(("*.core", '"fp32"'), ("*", '"int8"'), smooth=True), "smooth = true divides the embedding's columns"),
        ("qwen2", {}, rules(("*.core", '"fp32"'), ("*", '"int8-static"')), r"int8-static is not possible for .* \(nearest: int8\)"),
        ("qwen2", {}, rules(("*.core", '"fp32"'), ("*", '"q4_k"')), "precision.*one of fp32, fp16, int8, .*int4"),
    ],
)  # fmt: skip
def test_what_a_file_cannot_hold_is_refused_before_any_work(tmp_path, case, changes, plan, said):
    _, folder = on_disk(case, tmp_path / "checkpoint", **changes)
    (tmp_path / "asked.toml").write_text(plan)
    with pytest.raises(FirstTokenError, match=said):
        export(folder, tmp_path / "out", tmp_path / "asked.toml", ("gguf",), prove=False, cache_length=128)
    assert not (tmp_path / "out").exists()


def test_rows_that_are_no_blocks_can_be_floats(tmp_path):
    _, folder = on_disk("smollm", tmp_path / "checkpoint", hidden_size=80, num_attention_heads=5)
    lowered_artifact(folder, tmp_path, "fp16", "gguf", ends=[end_token()], cache_length=128, prefill_chunk=48)
    assert read_header(tmp_path / "model.gguf").tensors["token_embd.weight"].shape == (304, 80)


def test_a_tied_head_in_a_precision_of_its_own_is_stored_beside_the_embedding(tmp_path):
    _, folder = on_disk("qwen2", tmp_path / "checkpoint")
    (tmp_path / "own.toml").write_text(rules(("*.core", '"fp32"'), ("head", '"fp16"'), ("*", '"int8"')))
    lowered_artifact(folder, tmp_path, load_plan(tmp_path / "own.toml"), "gguf", ends=[end_token()], cache_length=128, prefill_chunk=48)
    read = read_header(tmp_path / "model.gguf").tensors
    assert (read["token_embd.weight"].dtype, read["output.weight"].dtype) == ("Q8_0", "F16")


def test_a_file_that_is_not_what_was_meant_is_found_out(tmp_path, monkeypatch):
    """A tensor left out while writing: the file is read again before anyone else reads it, and nothing of it stays."""
    from firsttoken.backends.gguf import tensors

    meant = tensors.tensors
    monkeypatch.setattr(module, "tensors", lambda *given: meant(*given))
    monkeypatch.setattr(
        module, "read_header", lambda path: type("Read", (), {"tensors": dict(list(read_header(path).tensors.items())[1:])})
    )
    with pytest.raises(FirstTokenError, match=r"tensor 'token_embd.weight' was written as None, meant was \('Q8_0', \(4096, 256\)\)"):
        export(checkpoint_path(), tmp_path / "out", "int8", ("gguf",), prove=False)
    assert not list(tmp_path.glob("out/*"))


def test_integers_that_the_checkpoint_has_stay(tmp_path):
    """Floats on a lattice of four bits: the file's numbers are theirs, which rounding to the largest weight, as Q4_0 does, would move."""
    model = random_model("qwen2", vocab_size=304)
    weight = model.model.layers[0].mlp.up_proj.weight
    weight.copy_(torch.from_numpy(np.random.default_rng(0).integers(-7, 8, tuple(weight.shape))).float() * 2**-6)
    folder = write_words(save(model, tmp_path / "checkpoint"))
    [made] = export(folder, tmp_path / "out", "int4", ("gguf",), prove=False, cache_length=128)
    stored = next(tensor for tensor in gguf.GGUFReader(made / "model.gguf").tensors if tensor.name == "blk.0.ffn_up.weight")
    assert [kept.layers for kept in read_manifest(made).kept] == [["layers.0.mlp.up"]]
    assert np.array_equal(gguf.quants.dequantize(stored.data, stored.tensor_type), weight.numpy())
