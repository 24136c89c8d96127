"""The embedded demo checkpoint: small, complete, consistent, and really trained."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from firsttoken import demo

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
FOLDER = demo.checkpoint_path()


def load_script(name: str):
    """Import a module of scripts/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it loads
    spec.loader.exec_module(module)
    return module


data = load_script("demo_checkpoint_data")
ngrams = load_script("demo_checkpoint_figures")


@pytest.fixture(scope="module")
def config() -> dict:
    return json.loads((FOLDER / "config.json").read_text())


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, local_files_only=True).eval()


def held_out_documents(tokenizer: Tokenizer, limit: int) -> tuple[list[list[int]], int]:
    """The first held-out files as tokens, each after a separator, and their size in bytes."""
    files = re.split(r"^# ======== .* ========\n\n", demo.held_out_text(), flags=re.MULTILINE)[1:]
    documents, size = [], 0
    for text in files:
        documents.append([tokenizer.token_to_id("<|endoftext|>"), *tokenizer.encode(text).ids])
        size += len(text.encode())
        if size >= limit:
            break
    return documents, size


def test_the_folder_is_complete_and_within_8_megabytes():
    names = {path.name for path in FOLDER.iterdir()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
        "LICENSE.txt",
    }
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 8_000_000


def test_the_config_and_the_tensors_agree(config):
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = hidden // config["num_attention_heads"]
    rows = {"q": config["num_attention_heads"] * head, "k": config["num_key_value_heads"] * head}
    rows["v"] = rows["k"]
    expected = {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name, size in rows.items():
            expected[f"{prefix}self_attn.{name}_proj.weight"] = (size, hidden)
            expected[f"{prefix}self_attn.{name}_proj.bias"] = (size,)
        expected[f"{prefix}self_attn.o_proj.weight"] = (hidden, rows["q"])
        expected[f"{prefix}mlp.gate_proj.weight"] = expected[f"{prefix}mlp.up_proj.weight"] = (inner, hidden)
        expected[f"{prefix}mlp.down_proj.weight"] = (hidden, inner)
        expected[f"{prefix}input_layernorm.weight"] = expected[f"{prefix}post_attention_layernorm.weight"] = (hidden,)
    with safe_open(FOLDER / "model.safetensors", framework="pt") as tensors:
        found = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118  safe_open has no __iter__
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == expected
    for name, tensor in found.items():
        assert tensor.dtype == torch.bfloat16, name
        assert torch.isfinite(tensor).all(), name
    assert config["model_type"] == "qwen2" and config["tie_word_embeddings"]
    assert head == 64 and all(size % 32 == 0 for shape in expected.values() for size in shape)


def test_the_vocabulary_is_the_tokenizers(config, tokenizer):
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    stops = json.loads((FOLDER / "generation_config.json").read_text())["eos_token_id"]
    assert stops == [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")]
    assert config["eos_token_id"] in stops


def test_the_tokenizer_round_trips_held_out_text(tokenizer):
    text = demo.held_out_text()
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text
    assert len(ids) < 0.4 * len(text)
    other = "naïve Ünïcode: 日本語 🙂 \t\r\n  end"
    assert tokenizer.decode(tokenizer.encode(other).ids) == other


def test_transformers_reads_the_same_tokenizer(tokenizer):
    auto = AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)
    text = demo.held_out_text()[:8000] + " <|im_start|>user\nit's 42<|im_end|>\n"
    assert auto(text)["input_ids"] == tokenizer.encode(text).ids
    assert (auto.eos_token, auto.pad_token) == ("<|im_end|>", "<|endoftext|>")
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    assert auto.apply_chat_template(turns, tokenize=False) == data.render_chat("Q", "A")
    prompt = auto.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    assert data.render_chat("Q", "A").startswith(prompt) and prompt.endswith("assistant\n")


def test_the_held_out_text_comes_from_held_out_files():
    text = demo.held_out_text()
    assert 48_000 <= len(text.encode()) <= 64_000
    paths = re.findall(r"^# ======== (.*) ========$", text, flags=re.MULTILINE)
    assert len(paths) >= 5
    for path in paths:
        assert data.SourceFile(path, "").held_out, path


def test_the_card_states_licence_split_command_and_figures(model):
    card = (FOLDER / "README.md").read_text()
    figures = {
        name: float(re.search(rf"\| \**{name}\** \| \**([0-9.]+)\** \|", card)[1]) for name in ("unigram", "bigram", "this checkpoint")
    }
    assert figures["this checkpoint"] < 0.8 * figures["bigram"] < figures["bigram"] < figures["unigram"]
    assert "PSF-2.0" in card and "Python Software Foundation" in card
    assert "scripts/train_demo_checkpoint.py" in card and "held out" in card
    assert f"{sum(p.numel() for p in model.parameters()):,}" in card
    assert "PYTHON SOFTWARE FOUNDATION LICENSE" in (FOLDER / "LICENSE.txt").read_text()


def test_the_model_beats_a_bigram_of_the_whole_train_split(model, tokenizer):
    documents, size = held_out_documents(tokenizer, 20_000)
    train_files, _ = data.split(data.read_corpus())
    end = tokenizer.token_to_id("<|endoftext|>")
    train = np.concatenate([[end, *e.ids] for e in tokenizer.encode_batch_fast([f.text for f in train_files])])
    bigram = ngrams.bigram_bits(train, documents, tokenizer.get_vocab_size())[0] / size
    unigram = ngrams.unigram_bits(train, documents, tokenizer.get_vocab_size()) / size
    total, bits, tokens = ngrams.model_bits(model, documents)
    assert tokens.sum() == sum(len(d) - 1 for d in documents)
    assert total / size < 0.8 * bigram < bigram < unigram < 8
    # Late positions must work as well as early ones, or long prompts would prove nothing.
    assert bits[3] / tokens[3] < bits[0] / tokens[0] + 0.5


def test_the_bigram_is_a_distribution():
    train = np.random.default_rng(0).integers(0, 9, 500)  # token 9 is never seen
    for context in (0, 5, 9):
        total = sum(2 ** -ngrams.bigram_bits(train, [[context, token]], 10, discounts=(0.75,))[0] for token in range(10))
        assert total == pytest.approx(1.0)


@pytest.mark.parametrize("prompt", demo.prompts(), ids=lambda prompt: prompt["name"])
def test_prompts_give_varied_text(prompt, model):
    auto = AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)
    text = prompt["text"]
    if prompt["chat"]:
        text = auto.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
    ids = auto(text, return_tensors="pt")["input_ids"]
    made = model.generate(ids, max_new_tokens=32, do_sample=False)[0, ids.shape[1] :].tolist()
    assert len(made) >= 4, "the model stopped at once"
    assert len(set(made)) > len(made) // 3, f"the model repeats itself: {auto.decode(made)!r}"
    assert "\ufffd" not in auto.decode(made)
