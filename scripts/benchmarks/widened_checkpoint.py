"""The trained demo checkpoint grown to Qwen2.5-0.5B's shape: a model of real size that still predicts text.

Random weights give logits without a favourite, of which divergences say little, and no 0.5B checkpoint can be had without
a download. So the demo's layers are grown by what keeps a network's function (Net2Net, arXiv 1511.05641):

- wider: channels, MLP neurons and query heads are doubled up, and the weights that read them are split among the copies at
  random, so that no two copies are alike
- deeper: each layer becomes six with the same inputs, the first of which keeps most of its output; this alone changes the
  function, by a per cent of its perplexity
- vocabulary: the rows beyond the tokenizer's are noise of the trained rows' size

What is measured on it is compared with the grown checkpoint in FP32, never with the demo. Its outliers are the demo's, not
those of a model that was trained at this size.
"""

import json
import shutil
from pathlib import Path

import numpy as np

COPIES = 6  # layers for each of the demo's
SHARES = (0.9, 0.02, 0.02, 0.02, 0.02, 0.02)  # of a layer's output, by copy
SPREAD = 0.5  # deviation of a split weight, in deviations of the share itself
COPIED_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


def make_widened(folder: Path, sizes: dict, vocabulary: int, seed: int):
    """Writes config, tokenizer and bfloat16 weights of the grown demo into ``folder``. ``sizes`` are config.json's names."""
    import torch
    from safetensors.torch import load_file, save_file

    from firsttoken.demo import checkpoint_path

    source = checkpoint_path()
    config = json.loads((source / "config.json").read_text())
    weights = {name: weight.float().numpy() for name, weight in load_file(source / "model.safetensors").items()}
    grown = Growth(config, sizes, vocabulary, np.random.default_rng(seed)).checkpoint(weights)
    for name in COPIED_FILES:
        shutil.copy(source / name, folder / name)
    (folder / "config.json").write_text(json.dumps(config | sizes | {"vocab_size": vocabulary}, indent=1))
    save_file(
        {name: torch.from_numpy(weight).to(torch.bfloat16) for name, weight in grown.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )


class Growth:
    """Which original channel, neuron and head each new one copies."""

    def __init__(self, old: dict, new: dict, vocabulary: int, random: np.random.Generator):
        self.random, self.vocabulary, self.layers = random, vocabulary, old["num_hidden_layers"]
        if new["num_hidden_layers"] != COPIES * self.layers or new["num_key_value_heads"] != old["num_key_value_heads"]:
            raise ValueError("the new shape needs six layers for each of the demo's and as many key/value heads")
        self.head = old["hidden_size"] // old["num_attention_heads"]
        if self.head != new["hidden_size"] // new["num_attention_heads"]:
            raise ValueError("the new shape needs the demo's head size")
        groups = old["num_key_value_heads"]
        self.channels = copies(old["hidden_size"], new["hidden_size"])
        self.neurons = copies(old["intermediate_size"], new["intermediate_size"])
        per_group = copies(old["num_attention_heads"] // groups, new["num_attention_heads"] // groups)
        heads = np.concatenate([per_group + group * (old["num_attention_heads"] // groups) for group in range(groups)])
        self.queries = (heads[:, None] * self.head + np.arange(self.head)).reshape(-1)
        # A channel with fewer copies is larger in each, so that RMSNorm's mean square stays what it was.
        self.scale = np.sqrt(len(self.channels) / old["hidden_size"] / np.bincount(self.channels))[self.channels]

    def split(self, weight: np.ndarray, chosen: np.ndarray, scale: np.ndarray | float = 1.0) -> np.ndarray:
        """Columns for the copies ``chosen``, which add up to the original: unequal shares of ``weight [rows, columns]``."""
        count = np.bincount(chosen)[chosen]
        share = weight[:, chosen] / count
        noise = self.random.standard_normal(share.shape, np.float32) * (SPREAD * share.std())
        mean = np.zeros_like(weight)
        np.add.at(mean.T, chosen, (noise / count).T)
        return ((share + noise - mean[:, chosen]) / scale).astype(np.float32)

    def checkpoint(self, old: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns every tensor of the grown checkpoint, by name."""
        embedding = old["model.embed_tokens.weight"]
        rows = self.random.standard_normal((self.vocabulary, len(self.channels)), np.float32) * embedding.std()
        rows[: len(embedding)] = embedding[:, self.channels] * self.scale
        # The tied head sums over the copies, which the last norm takes back.
        new = {
            "model.embed_tokens.weight": rows,
            "model.norm.weight": old["model.norm.weight"][self.channels] * embedding.shape[1] / len(self.channels),
        }
        for layer in range(self.layers * COPIES):
            before, after = f"model.layers.{layer // COPIES}.", f"model.layers.{layer}."
            share = SHARES[layer % COPIES]
            for norm in ("input_layernorm", "post_attention_layernorm"):
                new[f"{after}{norm}.weight"] = old[f"{before}{norm}.weight"][self.channels]
            for name, kept in (("q", self.queries), ("k", ...), ("v", ...)):
                part = f"self_attn.{name}_proj"
                new[f"{after}{part}.weight"] = self.split(old[f"{before}{part}.weight"][kept], self.channels, self.scale)
                new[f"{after}{part}.bias"] = old[f"{before}{part}.bias"][kept]
            for name in ("gate", "up"):
                new[f"{after}mlp.{name}_proj.weight"] = self.split(
                    old[f"{before}mlp.{name}_proj.weight"][self.neurons], self.channels, self.scale
                )
            for part, read in (("self_attn.o_proj", self.queries), ("mlp.down_proj", self.neurons)):
                written = old[f"{before}{part}.weight"][self.channels] * (self.scale * share)[:, None]
                new[f"{after}{part}.weight"] = self.split(written.astype(np.float32), read)
        return {name: np.ascontiguousarray(weight, np.float32) for name, weight in new.items()}


def copies(old: int, new: int) -> np.ndarray:
    """For each of ``new``, which of ``old`` it copies: all equally often, but for one."""
    return np.arange(new) % old
