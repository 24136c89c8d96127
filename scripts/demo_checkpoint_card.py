"""The README.md card of the demo checkpoint, with the figures it states."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import demo_checkpoint_data as data
import numpy as np
import torch
from demo_checkpoint_figures import bigram_bits, model_bits, unigram_bits
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

CARD = """\
---
license: psf-2.0
language: en
library_name: transformers
---

# Demo checkpoint

A very small language model in Qwen2 layout, trained from nothing on the source
and docstrings of Python's standard library. It exists so that `firsttoken demo`
and the tests have a real, trained checkpoint without a download. It writes
plausible Python and docstrings for a few lines. It knows nothing else, and its
statements about Python are often wrong: do not use it for answers.

| | |
|---|---|
| parameters | {parameters:,} (tied embeddings, q/k/v biases) |
| shape | {layers} layers, hidden {hidden}, {heads} heads and {kv_heads} key/value heads of size 64, MLP {intermediate} |
| vocabulary | {vocab}, byte-level BPE with Qwen2's pre-split |
| stored as | bfloat16, {bytes:,} bytes with tokenizer |
| positions | trained on {length}, then {long_length} tokens (`max_position_embeddings` 2048, `rope_theta` 10000) |
| training | {steps:,} steps, {tokens:,} tokens, {minutes:.0f} minutes on {threads} CPU threads, seed {seed} |

## Held-out figures

| model | bits per byte |
|---|---|
| unigram | {unigram:.3f} |
| bigram | {bigram:.3f} |
| **this checkpoint** | **{model:.3f}** |

Scored on {documents} held-out files ({sample_bytes:,} bytes, at most 12,000 from each, {sample_tokens:,} tokens)
with the stored bfloat16 weights computed in FP32, in windows of 1024 tokens that overlap by half. The
n-gram models see the same tokens of the same train split. The bigram is interpolated Kneser-Ney, and its
discount ({discount}) was picked on the scored text itself, which can only help it. By the position of the
predicting token within its window the checkpoint needs {quarters} bits per token
at 0-255, 256-511, 512-767 and 768-1023.

## Data and split

Python {python}'s standard library: {train_files} files ({train_bytes:,} bytes) for training and
{held_files} ({held_bytes:,} bytes) held out. Tests, `encodings` and generated build data are left out. A file is
held out when the SHA-256 of its relative path, first eight bytes, modulo 100 is below {percent}. The tokenizer saw the train
split only. About {chat:.0%} of the training samples are chat turns made from the train split's docstrings:
"Explain module X", "Explain def f(...)", "Write def f(...): first line".
`held_out.txt`, one folder up, is made of whole held-out files.

## Made with

```
{command}
```

Again from the same Python version this gives the same data, split and tokenizer; the
weights differ slightly with the machine's speed and arithmetic, because the run is
bounded by time.

## Licence

PSF-2.0, as the data. Copyright (c) 2001-2023 Python Software Foundation; All Rights Reserved.
The licence text of the standard library is in `LICENSE.txt`.
"""


def figures(folder: Path, corpus: list, source: np.ndarray) -> dict:
    """Held-out bits per byte of the stored checkpoint and of the n-gram models."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end, vocab = tokenizer.token_to_id(data.END_OF_TEXT), tokenizer.get_vocab_size()
    texts = data.held_out_sample(data.split(corpus)[1])
    # The separator before each document is given, not scored: every model predicts the same tokens.
    documents = [[end, *tokenizer.encode(text).ids] for text in texts]
    size = sum(len(text.encode()) for text in texts)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    total, bits, tokens = model_bits(model, documents)
    bigram, discount = bigram_bits(source, documents, vocab)
    return {
        "unigram": unigram_bits(source, documents, vocab) / size,
        "bigram": bigram / size,
        "discount": discount,
        "model": total / size,
        "quarters": ", ".join(f"{b / t:.2f}" for b, t in zip(bits, tokens, strict=True)),
        "documents": len(documents),
        "sample_bytes": size,
        "sample_tokens": int(tokens.sum()),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def write_card(folder: Path, corpus: list, training: dict | None) -> None:
    """Write README.md into a checkpoint folder; without `training` it is marked unfinished."""
    card = folder / "README.md"
    if training is None:
        card.write_text("# Demo checkpoint (unfinished)\n\nTraining is still running.\n")
        return
    config = json.loads((folder / "config.json").read_text())
    train_files, held_out = data.split(corpus)
    options = training["options"]
    found = figures(folder, corpus, training["source"])
    if found["model"] > 0.95 * found["bigram"]:
        raise SystemExit(
            f"Not written: {found['model']:.3f} bits per byte is not clearly below the bigram's {found['bigram']:.3f}."
            " Train longer: --resume with more --minutes or --steps."
        )
    values = {
        **found,
        "layers": config["num_hidden_layers"],
        "hidden": config["hidden_size"],
        "heads": config["num_attention_heads"],
        "kv_heads": config["num_key_value_heads"],
        "intermediate": config["intermediate_size"],
        "vocab": config["vocab_size"],
        "length": options["length"],
        "long_length": options["long_length"],
        "threads": options["threads"],
        "steps": training["step"],
        "tokens": training["tokens"],
        "minutes": training["seconds"] / 60,
        "seed": training["seed"],
        "command": training["command"],
        "chat": options["chat_share"],
        "python": platform.python_version(),
        "percent": data.HELD_OUT_PERCENT,
        "train_files": len(train_files),
        "train_bytes": sum(len(f.text.encode()) for f in train_files),
        "held_files": len(held_out),
        "held_bytes": sum(len(f.text.encode()) for f in held_out),
    }
    # The card counts itself in the folder's size; its own length barely depends on the number.
    others = sum(f.stat().st_size for f in folder.iterdir() if f != card)
    text = CARD.format(**values, bytes=others)
    card.write_text(CARD.format(**values, bytes=others + len(text.encode())))
