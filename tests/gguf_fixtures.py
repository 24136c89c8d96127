"""Checkpoints with a small byte-level tokenizer, and what a test needs that runs llama.cpp."""

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from families_on_disk import random_model, save
from gguf_writer import byte_level_words

needs_llama_cpp = pytest.mark.skipif(
    find_spec("llama_cpp") is None, reason="llama.cpp is not installed: pip install 'firsttoken[gguf-run]' (built from source, minutes)"
)
VOCABULARY = 304  # rows of the embedding: four more than the tokenizer has tokens, as checkpoints pad them


@cache
def words() -> dict:
    return byte_level_words()


def write_words(folder: Path, **settings) -> Path:
    """Writes the tokenizer's files; ``settings`` go into tokenizer_config.json."""
    words()["engine"].save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", "pad_token": "<|end|>", **settings}))
    return folder


def end_token() -> int:
    return words()["engine"].token_to_id("<|end|>")


def on_disk(case: str, folder: Path, **changes):
    """A random model of ``case`` (`families_on_disk`), saved with a tokenizer; returns the model and its folder."""
    model = random_model(case, **{"vocab_size": VOCABULARY, **changes})
    return model, write_words(save(model, folder))
