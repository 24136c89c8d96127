"""Random checkpoints whose KV cache and vocabulary are those of real models; layers are narrowed where that changes neither."""

import json
import random
import shutil
from pathlib import Path

import torch
from families_on_disk import random_model, save

from firsttoken.demo import checkpoint_path

# Of the models' config.json: layers, heads, KV heads, head_dim and vocabulary. The width and the MLP's are not theirs.
SHAPES = {
    "SmolLM2-1.7B": ("llama2", {"num_hidden_layers": 24, "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 64}, 49152),
    "Qwen2.5-1.5B": ("llama2", {"num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2, "head_dim": 128}, 151936),
}
NARROW = {"hidden_size": 384, "intermediate_size": 256, "max_position_embeddings": 2048, "tie_word_embeddings": True}


def write_checkpoint(name: str, folder: Path) -> Path:
    case, shape, vocabulary = SHAPES[name]
    save(random_model(case, **shape, **NARROW, vocab_size=vocabulary), folder, torch.bfloat16)
    shutil.copy(checkpoint_path() / "tokenizer_config.json", folder)
    (folder / "tokenizer.json").write_text(_tokenizer(vocabulary), encoding="utf-8")
    return folder


def _tokenizer(size: int, seed: int = 11) -> str:
    """The demo's tokenizer with random merges added until it has ``size`` tokens."""
    tokenizer = json.loads((checkpoint_path() / "tokenizer.json").read_text(encoding="utf-8"))
    model, rng = tokenizer["model"], random.Random(seed)
    vocabulary, merges = model["vocab"], model["merges"]
    texts = [text for text in vocabulary if len(text) < 7]
    added = tokenizer["added_tokens"]
    special = {token["content"] for token in added}
    number = max(vocabulary.values()) + 1
    while number < size - len(added):
        left, right = rng.choice(texts), rng.choice(texts)
        if left + right in vocabulary or special & {left, right, left + right}:
            continue
        vocabulary[left + right] = number
        merges.append([left, right] if isinstance(merges[0], list) else f"{left} {right}")
        if len(left + right) < 7:
            texts.append(left + right)
        number += 1
    for token in added:  # behind the vocabulary, as the tokenizers library numbers them whatever the file says
        token["id"], number = number, number + 1
    return json.dumps(tokenizer, ensure_ascii=False)
