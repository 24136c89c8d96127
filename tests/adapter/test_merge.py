"""Adapters merged while streaming, against PEFT's own merge_and_unload; and adapters that do not fit."""

import json
import shutil
import tracemalloc

import numpy as np
import pytest
import torch
from families_on_disk import random_model, save
from gguf_writer import write_model
from safetensors.torch import load_file, save_file

from firsttoken.adapter.merge import MergedCheckpoint
from firsttoken.checkpoint import Checkpoint
from firsttoken.checkpoint_sources.open import open_checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.errors import FirstTokenError

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = {
    "lora": {"target_modules": ALL},
    "rslora": {"target_modules": ALL, "use_rslora": True, "lora_alpha": 3},
    "patterns": {"target_modules": ALL, "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.up_proj": 7}, "alpha_pattern": {"down_proj": 1.5}},
    "fan-in-fan-out": {"target_modules": ["q_proj", "down_proj"], "fan_in_fan_out": True},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "head": {"target_modules": ["lm_head", "v_proj"]},
    "modules-to-save": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]},
    "norms-saved": {"target_modules": ["q_proj"], "modules_to_save": ["input_layernorm"]},
    "dora": {"target_modules": ALL, "use_dora": True},
    "dora-rslora": {"target_modules": ["q_proj", "o_proj"], "use_dora": True, "use_rslora": True},
    "bias-all": {"target_modules": ["q_proj"], "bias": "all"},
    "bias-lora-only": {"target_modules": ["q_proj"], "bias": "lora_only"},
}


def trained(folder, case="qwen2-untied", **config):
    """Saves a base checkpoint and an adapter with random weights; returns both folders and what PEFT merges of them."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    base = save(random_model(case), folder / "base")
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(**{"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", **config}),
    )
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            with torch.no_grad():
                weight.add_(0.1 * torch.randn_like(weight)) if "lora_A" not in name else weight.copy_(0.3 * torch.randn_like(weight))
    model.save_pretrained(folder / "adapter")
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder / "adapter")
    return base, folder / "adapter", {name: weight.numpy() for name, weight in again.merge_and_unload().state_dict().items()}


@pytest.mark.parametrize(("case", "config"), CASES.items(), ids=CASES)
def test_equal_to_peft(tmp_path, case, config):
    base, adapter, merged = trained(tmp_path, **config)
    before = load_file(base / "model.safetensors")
    changed = 0
    with open_checkpoint(base, adapter) as checkpoint:
        open_decoder(checkpoint)
        for name in checkpoint.tensors:
            ours, theirs = checkpoint.rows(name).reshape(merged[name].shape), merged[name]
            assert np.abs(ours - theirs).max() <= 1e-6 * np.abs(theirs).max(), name
            changed += not np.array_equal(ours, before[name].numpy())
            third = len(theirs) // 3
            part = checkpoint.rows(name, third, 2 * third).reshape(theirs[third : 2 * third].shape)
            assert np.abs(part - theirs[third : 2 * third]).max() <= 1e-6 * np.abs(theirs).max(), name
    assert changed == {"lora": 14, "rslora": 14, "patterns": 14, "fan-in-fan-out": 4, "embedding": 3, "head": 3, "modules-to-save": 4, "norms-saved": 4, "dora": 14, "dora-rslora": 4, "bias-all": 8, "bias-lora-only": 4}[case]  # fmt: skip


def test_name_and_fingerprint_show_the_adapter(tmp_path):
    base, adapter, _ = trained(tmp_path, target_modules=["q_proj"])
    with open_checkpoint(base, adapter) as merged, Checkpoint(base) as alone:
        first = merged.fingerprint()
        assert merged.name == "base+adapter" and first != alone.fingerprint()
        assert open_checkpoint(base, adapter).fingerprint() == first
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": 9}))
    second = open_checkpoint(base, adapter).fingerprint()
    tensors = load_file(adapter / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] += 1
    save_file(tensors, adapter / "adapter_model.safetensors")
    assert len({first, second, open_checkpoint(base, adapter).fingerprint()}) == 3


def test_onto_a_gguf_file(tmp_path):
    _, adapter, merged = trained(tmp_path, "llama3", target_modules=["q_proj", "down_proj"])
    path = write_model(tmp_path / "base.gguf", random_model("llama3", rope_parameters={"rope_type": "default", "rope_theta": 500000.0}))
    with open_checkpoint(path, adapter) as checkpoint:
        for name in ("self_attn.q_proj", "mlp.down_proj"):
            name = f"model.layers.1.{name}.weight"
            assert np.abs(checkpoint.rows(name, 5, 40) - merged[name][5:40]).max() <= 1e-6 * np.abs(merged[name]).max()


def test_memory_is_a_block_of_rows(tmp_path):
    """A matrix of 64 MiB, 256 rows at a time: 2 MiB of values and as much of change, and A, which is 64 KiB."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    name = "model.layers.0.mlp.up_proj"
    save_file({f"{name}.weight": torch.randn(8192, 2048)}, base / "model.safetensors")
    adapter = write_adapter(tmp_path, {f"{name}.lora_A.weight": torch.randn(8, 2048), f"{name}.lora_B.weight": torch.randn(8192, 8)})
    with open_checkpoint(base, adapter) as checkpoint:
        tracemalloc.start()
        for start in range(0, 8192, 256):
            checkpoint.rows(f"{name}.weight", start, start + 256)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 12 << 20, f"{peak / 2**20:.0f} MiB"


def write_adapter(folder, tensors, **config):
    place = folder / "adapter"
    place.mkdir(exist_ok=True)
    (place / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 8, **config}))
    save_file({f"base_model.model.{name}": value for name, value in tensors.items()}, place / "adapter_model.safetensors")
    return place


Q = "model.layers.0.self_attn.q_proj"
A, B = {f"{Q}.lora_A.weight": torch.ones(8, 64)}, {f"{Q}.lora_B.weight": torch.ones(64, 8)}
MISFITS = {
    "nothing": ({}, {}, "holds no tensor"),
    "another model's layer": ({"model.layers.9.self_attn.q_proj.lora_A.weight": torch.ones(8, 64)}, {}, "has no place in the base checkpoint"),
    "half": (A, {}, "only one of A and B"),
    "other columns": ({**B, f"{Q}.lora_A.weight": torch.ones(8, 32)}, {}, r"is \[8, 32\]; expected \[8, 64\]"),
    "other rows": ({**A, f"{Q}.lora_B.weight": torch.ones(32, 8)}, {}, r"is \[32, 8\]; expected \[64, 8\]"),
    "another rank": ({**A, **B}, {"r": 4}, r"is \[8, 64\]; expected \[4, 64\]"),
    "lengths without DoRA": ({**A, **B, f"{Q}.lora_magnitude_vector": torch.ones(64)}, {}, "has a lora_magnitude_vector"),
    "DoRA without lengths": ({**A, **B}, {"use_dora": True}, "has no lora_magnitude_vector"),
    "DoRA of another size": ({**A, **B, f"{Q}.lora_magnitude_vector": torch.ones(32)}, {"use_dora": True}, "no vector of 64"),
    "integers": ({**A, f"{Q}.lora_B.weight": torch.ones(64, 8, dtype=torch.int8)}, {}, "is stored as I8"),
    "a larger vocabulary": ({"lm_head.weight": torch.ones(140, 64)}, {}, "a vocabulary that grew cannot be merged"),
    "DoRA of the embedding": (
        {"model.embed_tokens.lora_embedding_A": torch.ones(8, 131), "model.embed_tokens.lora_embedding_B": torch.ones(64, 8), "model.embed_tokens.lora_magnitude_vector": torch.ones(64)},
        {"use_dora": True},
        "DoRA of the embedding",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save(random_model("qwen2-untied"), tmp_path_factory.mktemp("base") / "base")


@pytest.mark.parametrize(("tensors", "config", "said"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_named(tmp_path, base, tensors, config, said):
    with pytest.raises(FirstTokenError, match=said):
        open_checkpoint(base, write_adapter(tmp_path, tensors, **config))


@pytest.mark.parametrize("name", ["lm_head", "model.embed_tokens"])
def test_a_tied_head_is_not_changed_behind_its_back(tmp_path, name):
    tied = save(random_model("qwen2"), tmp_path / "base")
    adapter = write_adapter(tmp_path, {f"{name}.weight": torch.ones(131, 64)})
    with pytest.raises(FirstTokenError, match="no place|both as embedding and as head"):
        open_checkpoint(tied, adapter)


def test_names_of_another_program_and_pickles(tmp_path, base):
    adapter = write_adapter(tmp_path, A)
    save_file({"lora_unet_q.weight": torch.ones(2, 2)}, adapter / "adapter_model.safetensors")
    with pytest.raises(FirstTokenError, match="does not begin with 'base_model.model.'"):
        open_checkpoint(base, adapter)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(FirstTokenError, match="only as pickle"):
        open_checkpoint(base, adapter)
    (adapter / "adapter_model.bin").unlink()
    with pytest.raises(FirstTokenError, match="adapter_model.safetensors is missing"):
        open_checkpoint(base, adapter)
    with pytest.raises(FirstTokenError, match="--adapter .*: not a folder"):
        MergedCheckpoint(Checkpoint(base), tmp_path / "nowhere")


def test_an_adapter_nobody_named(tmp_path, base):
    folder = tmp_path / "folder"
    shutil.copytree(base, folder)
    for path in write_adapter(tmp_path, {**A, **B}).iterdir():
        shutil.copy(path, folder)
    with pytest.raises(FirstTokenError, match="holds a LoRA adapter.*that nobody named; merge it with --adapter .*or remove"):
        open_checkpoint(folder)
    with open_checkpoint(folder, folder) as merged, Checkpoint(base) as alone:
        assert not np.array_equal(merged.rows(f"{Q}.weight"), alone.rows(f"{Q}.weight"))
    with pytest.raises(FirstTokenError, match="is a LoRA adapter, not a checkpoint; give its base model"):
        open_checkpoint(tmp_path / "adapter")
