"""The witness: transformers agrees with the reference to the last digits, and every known way to misread a checkpoint is noticed.

Its process takes seconds to import transformers, so but for one test the worker's functions are called here, on the same folders.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from families_on_disk import CASES, SIZES, random_model, save

from firsttoken import cli
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.rope import Rope
from firsttoken.decoder.walk import open_decoder
from firsttoken.demo import checkpoint_path, held_out_text
from firsttoken.prove import reference, witness_process, witness_worker
from firsttoken.prove import witness as asking
from firsttoken.prove.witness import BOUND, OFF, judge, questions, witness
from firsttoken.prove.witness_lines import witness_line
from firsttoken.prove.witness_process import room

LARGE = {"vocab_size": 4096, "max_position_embeddings": 2048}


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    monkeypatch.delenv(OFF)


@pytest.fixture
def forgetful(monkeypatch, tmp_path):
    """A cache folder that remembers no witness."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def ask_here(folder, layers, memory, windows, texts, chats):
    """What the process does, in this one."""
    place = Path(folder) / "logits.npy"
    answer = {"transformers": transformers.__version__, **witness_worker.words(str(folder), texts, chats)}
    answer |= witness_worker.logits(str(folder), layers, windows, place)
    return answer, np.load(place) if place.exists() else None


@pytest.fixture
def here(monkeypatch, forgetful):
    monkeypatch.setattr(asking, "ask", ask_here)


def with_words(folder: Path) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint_path() / name, folder / name)
    return folder


def held_against(ours: Path, theirs: Path | None = None, change=lambda decoder: decoder):
    """The witness of a folder that firsttoken reads, and transformers too or another one in its place."""
    checkpoint = Checkpoint(ours)
    decoder, both = change(open_decoder(checkpoint)), questions(checkpoint, held_out_text())
    answer, logits = ask_here(theirs or ours, len(decoder.layers), 0, both.windows, both.texts, both.chats)
    return judge(checkpoint, decoder, both, len(decoder.layers), answer, logits)


@pytest.mark.slow
def test_the_process_agrees_once_and_is_remembered(tiny_checkpoint, monkeypatch, forgetful):
    checkpoint = Checkpoint(tiny_checkpoint)
    decoder = open_decoder(checkpoint)
    found = witness(checkpoint, decoder, held_out_text())
    assert found.said == "agrees" and found.why is None and found.difference < BOUND / 10, found
    assert (found.positions, found.layers, found.of_layers, found.chats) == (80, 2, 2, 4) and found.texts >= 7
    assert found.by == f"transformers {transformers.__version__} Qwen2ForCausalLM"
    assert "2 of 2 layers" in witness_line(found) and "4 chats token by token" in witness_line(found)

    def never(*_):
        raise AssertionError("it was asked again")

    monkeypatch.setattr(asking, "ask", never)
    assert witness(Checkpoint(tiny_checkpoint), decoder, held_out_text()) == found
    for file, change in (("tokenizer_config.json", {"model_max_length": 7}), ("config.json", {"eos_token_id": 1})):
        values = json.loads((tiny_checkpoint / file).read_text())
        (tiny_checkpoint / file).write_text(json.dumps({**values, **change}))
        with pytest.raises(AssertionError, match="asked again"):
            witness(Checkpoint(tiny_checkpoint), decoder, held_out_text())
        (tiny_checkpoint / file).write_text(json.dumps(values))


@pytest.mark.parametrize("case", CASES)
def test_every_family_agrees_far_within_the_bound(case, tmp_path):
    folder = with_words(save(random_model(case, **LARGE), tmp_path / case))
    found = held_against(folder)
    assert found.said == "agrees" and found.difference < BOUND / 10, found


def blocks(decoder, change):
    return replace(decoder, layers=tuple(change(number, block) for number, block in enumerate(decoder.layers)))


def attention(**changes):
    return lambda decoder: blocks(decoder, lambda _, block: replace(block, attention=replace(block.attention, **{
        name: change(getattr(block.attention, name)) for name, change in changes.items()
    })))  # fmt: skip


MISREAD = {
    "rope theta 9,000 for 10,000": attention(
        rotation=lambda rope: Rope(tuple(f * (10 / 9) ** (n / len(rope.inverse_frequencies)) for n, f in enumerate(rope.inverse_frequencies)))
    ),
    "epsilon 1e-5 for 1e-6": lambda decoder: blocks(
        decoder, lambda _, block: replace(block, attention_norm=replace(block.attention_norm, epsilon=1e-5))
    ),
    "a bias of queries dropped": attention(q=lambda part: replace(part, bias=None)),
    "scores 1% too large": attention(core=lambda core: replace(core, scale=core.scale * 1.01)),
    "a window of 32": attention(core=lambda core: replace(core, window=32)),
    "a layer without rotation": lambda decoder: blocks(
        decoder, lambda n, block: replace(block, attention=replace(block.attention, rotation=Rope((0.0,) * len(block.attention.rotation.inverse_frequencies)))) if n else block
    ),
    "half the layers": lambda decoder: replace(decoder, layers=decoder.layers[:1]),
}  # fmt: skip


@pytest.mark.parametrize("fault", MISREAD)
def test_a_misreading_of_ours_is_noticed(fault, tiny_checkpoint):
    checkpoint = Checkpoint(tiny_checkpoint)
    wrong, both = MISREAD[fault](open_decoder(checkpoint)), questions(checkpoint, held_out_text())
    answer, logits = ask_here(tiny_checkpoint, 2, 0, both.windows, both.texts, both.chats)
    found = judge(checkpoint, wrong, both, len(wrong.layers), answer, logits)
    assert found.said == "differs" and found.why.startswith("logits: at position") and found.difference > 3 * BOUND, found


RENAMED = {
    "SmolLM3": (
        {"no_rope_layers": [1, 0], "no_rope_layer_interval": 2, "tie_word_embeddings": True, "use_sliding_window": False},
        ("no_rope_layers", "no_rope_layer_interval", "use_sliding_window", "layer_types", "max_window_layers", "sliding_window"),
    ),
    "Granite": (
        {"embedding_multiplier": 12.0, "attention_multiplier": 0.0625, "residual_multiplier": 0.22, "logits_scaling": 8.0, "tie_word_embeddings": True},
        ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RENAMED)
def test_a_model_renamed_to_llama_is_refused_or_noticed(name, tmp_path, capsys):
    """Its own class reads the folder as it was, firsttoken the one with config.json edited until it is taken."""
    changes, taken_out = RENAMED[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **LARGE, "num_key_value_heads": 2, **changes, "pad_token_id": None})
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.copy_(1 + 0.3 * torch.randn_like(weight) if weight.dim() == 1 else torch.randn_like(weight) * weight.shape[-1] ** -0.5)
    original = with_words(save(model, tmp_path / "original"))
    renamed = Path(shutil.copytree(original, tmp_path / "renamed"))
    values = json.loads((original / "config.json").read_text())
    edited = {key: value for key, value in values.items() if key not in taken_out} | {"model_type": "llama"}
    for step, said in (({}, "not supported"), ({"model_type": "llama"}, f"architectures says '{name}ForCausalLM'")):
        (renamed / "config.json").write_text(json.dumps({**values, **step}))
        if name.lower() not in open_families() or step:
            assert cli.run(["export", str(renamed), "-o", str(tmp_path / "out")]) == 2 and said in capsys.readouterr().err
    (renamed / "config.json").write_text(json.dumps({key: value for key, value in edited.items() if key != "architectures"}))
    found = held_against(renamed, original)
    assert found.said == "differs" and found.difference > 100 * BOUND


def open_families():
    from firsttoken.decoder.families import family_names

    return family_names()


def test_an_adapter_beside_the_weights_is_not_ignored(tiny_checkpoint, tmp_path, capsys):
    (tiny_checkpoint / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8}')
    assert cli.run(["export", str(tiny_checkpoint), "-o", str(tmp_path / "out")]) == 2
    assert "adapter_config.json" in capsys.readouterr().err


def test_what_differs_fails_the_export_before_the_work_and_the_proof(tiny_checkpoint, tmp_path, capsys, here, monkeypatch):
    arguments = ["export", str(tiny_checkpoint), "-o", str(tmp_path / "out"), "--cache-length", "64", "--plan", "fp32"]
    assert cli.run(arguments) == 0
    said = capsys.readouterr().out
    manifest = read_manifest(tmp_path / "out/tflite-xnnpack")
    assert manifest.cpu.proof.witness.said == "agrees" and "understood as by transformers" in said
    prove = ["prove", str(tmp_path / "out/tflite-xnnpack"), "--checkpoint", str(tiny_checkpoint)]
    assert cli.run([*prove, "--no-witness"]) == 0 and "not witnessed: left out (--no-witness)" in capsys.readouterr().out
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    monkeypatch.setitem(reference.ACTIVATIONS, "silu", lambda x: np.maximum(x, 0))
    assert cli.run([*arguments, "--force"]) == 3
    said = capsys.readouterr().err
    assert "error: the checkpoint was not understood: logits: at position" in said and "--no-witness" in said
    assert read_manifest(tmp_path / "out/tflite-xnnpack") == manifest, "the older bundle is left alone"
    assert cli.run(prove) == 3 and "the checkpoint was not understood: logits" in capsys.readouterr().err


def test_left_out_is_recorded(tiny_checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(asking, "ask", lambda *_: pytest.fail("it was asked"))
    arguments = ["export", str(tiny_checkpoint), "-o", str(tmp_path / "out"), "--cache-length", "64", "--force"]
    assert cli.run([*arguments, "--no-witness"]) == 0
    found = read_manifest(tmp_path / "out/tflite-xnnpack").cpu.proof.witness
    assert (found.said, found.why) == ("not witnessed", "left out (--no-witness)")
    assert "not witnessed: left out (--no-witness)" in capsys.readouterr().out
    monkeypatch.setenv(OFF, "1")
    assert OFF in witness(Checkpoint(tiny_checkpoint), None, "").why


def test_without_transformers_it_is_said(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(asking, "find_spec", lambda name: None if name == "transformers" else object())
    found = witness(Checkpoint(tiny_checkpoint), None, "")
    assert witness_line(found) == "not witnessed: transformers not installed, run: pip install 'firsttoken[distill]'"


def test_a_class_that_transformers_does_not_know(tmp_path, tiny_checkpoint):
    theirs = Path(shutil.copytree(tiny_checkpoint, tmp_path / "theirs"))
    (theirs / "config.json").write_text('{"model_type": "of_next_year"}')
    found = held_against(tiny_checkpoint, theirs)
    assert found.said == "not witnessed" and "cannot load it: ValueError" in found.why and "of_next_year" in found.why


def test_weights_that_transformers_does_not_find(tmp_path, tiny_checkpoint):
    from safetensors.torch import load_file, save_file

    theirs = Path(shutil.copytree(tiny_checkpoint, tmp_path / "theirs"))
    tensors = load_file(theirs / "model.safetensors")
    tensors.pop("model.norm.weight")
    save_file(tensors, theirs / "model.safetensors", {"format": "pt"})
    found = held_against(tiny_checkpoint, theirs)
    assert found.said == "differs" and "finds no model.norm.weight" in found.why


def test_a_process_that_ends_is_no_witness(tiny_checkpoint, monkeypatch, forgetful):
    monkeypatch.setattr(witness_process, "MODULE", "firsttoken.no_such_module")
    checkpoint = Checkpoint(tiny_checkpoint)
    found = witness(checkpoint, open_decoder(checkpoint), held_out_text())
    assert found.said == "not witnessed" and "ended with 1" in found.why and "no_such_module" in found.why


@pytest.mark.parametrize("case", ["qwen2", "mistral", "qwen3"])
def test_of_a_model_too_large_the_first_layers_that_fit_are_compared(case, tmp_path, here, monkeypatch):
    folder = with_words(save(random_model(case, **LARGE, num_hidden_layers=5), tmp_path / case))
    checkpoint = Checkpoint(folder)
    decoder = open_decoder(checkpoint)
    whole = room(decoder, 80)
    layer = 4 * sum(tensor.row_count * tensor.row_length for name, tensor in checkpoint.tensors.items() if ".layers.4." in name)
    three = int((whole.memory - 1.5 * layer) / (1 - witness_process.MARGIN))
    assert whole.layers == 5 and room(decoder, 80, 1 << 20).layers == 0
    assert room(decoder, 80, three).layers == 3
    monkeypatch.setattr(witness_process, "available_memory", lambda: three)
    found = witness(checkpoint, decoder, held_out_text())
    assert found.said == "agrees" and (found.layers, found.of_layers) == (3, 5) and found.difference < BOUND / 10
    monkeypatch.setattr(witness_process, "available_memory", lambda: 1 << 20)
    assert "memory does not allow one layer" in witness(checkpoint, decoder, held_out_text()).why
