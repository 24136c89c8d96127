"""From other sources to a proven bundle: a GGUF file, and a base with an adapter; the proof holds it against the same two."""

import json
import shutil

import pytest
import torch
from families_on_disk import random_model
from gguf_writer import byte_level_words, write_model
from safetensors.torch import save_file

from firsttoken import cli
from firsttoken.bundle.manifest import read_manifest

pytestmark = pytest.mark.slow


def run(capsys, *arguments, code: int = 0):
    assert cli.run([str(argument) for argument in arguments]) == code
    return capsys.readouterr()


def test_a_quantized_gguf_file(tmp_path, capsys):
    words = byte_level_words(400) | {"template": "{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}"}
    model = random_model("llama2", vocab_size=400, max_position_embeddings=512)
    path = write_model(tmp_path / "Model-Q8_0.gguf", model, {"proj.weight": "Q8_0", "embed_tokens.weight": "F16"}, words)
    bundle = tmp_path / "out" / "tflite-xnnpack"
    said = run(capsys, "export", path, "-o", tmp_path / "out", "-p", "fp32", "--cache-length", 128).out
    assert "14 tensors in Q8_0" in said and "not against the original model" in said
    manifest = read_manifest(bundle)
    assert manifest.checkpoint.name == "Model-Q8_0" and manifest.need_proof().passed and manifest.tokenizer.end == [0]
    assert manifest.chat.suffix.text == "<|end|>"
    assert "proven" in run(capsys, "prove", bundle, "-c", path).out
    # the same weights and words from the folder that get writes: another file, the same numbers
    printed = run(capsys, "get", path, "-o", tmp_path / "folder").out.strip()
    assert printed == str(tmp_path / "folder")
    run(capsys, "export", printed, "-o", tmp_path / "again", "-p", "fp32", "--cache-length", 128, "--no-prove")
    again = read_manifest(tmp_path / "again" / "tflite-xnnpack")
    assert again.facts(again.cpu).sha256 == manifest.facts(manifest.cpu).sha256
    assert again.tokenizer.model_copy(update={"files": []}) == manifest.tokenizer.model_copy(update={"files": []})


def test_a_base_with_an_adapter(tmp_path, tiny_checkpoint, capsys):
    adapter = tmp_path / "lora"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    name = "base_model.model.model.layers.0.mlp.up_proj"
    save_file(
        {f"{name}.lora_A.weight": torch.randn(4, 64), f"{name}.lora_B.weight": torch.randn(96, 4)}, adapter / "adapter_model.safetensors"
    )
    asked = ("-o", tmp_path / "out", "-p", "fp32", "--cache-length", 128)
    run(capsys, "export", tiny_checkpoint, "--adapter", adapter, *asked)
    bundle = tmp_path / "out" / "tflite-xnnpack"
    assert read_manifest(bundle).checkpoint.name == "tiny+lora" and read_manifest(bundle).need_proof().passed
    assert "proven" in run(capsys, "prove", bundle, "-c", tiny_checkpoint, "--adapter", adapter).out
    assert "was made from another checkpoint" in run(capsys, "prove", bundle, "-c", tiny_checkpoint, code=2).err
    merged = run(capsys, "get", tiny_checkpoint, "--adapter", adapter, "-o", tmp_path / "merged").out.strip()
    run(capsys, "export", merged, "-o", tmp_path / "again", "-p", "fp32", "--cache-length", 128, "--no-prove")
    first, second = read_manifest(bundle), read_manifest(tmp_path / "again" / "tflite-xnnpack")
    assert first.facts(first.cpu).sha256 == second.facts(second.cpu).sha256
    shutil.copy(adapter / "adapter_config.json", tiny_checkpoint)
    error = run(capsys, "export", tiny_checkpoint, "-o", tmp_path / "third", code=2).err
    assert "that nobody named; merge it with --adapter" in error and error.count("\n") == 1
