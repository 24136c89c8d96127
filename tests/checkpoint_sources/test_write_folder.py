"""Checkpoints written as folders: what transformers reads of them, what they say of their origin, and nothing half written."""

import json

import numpy as np
import pytest
import torch
from families_on_disk import random_model
from gguf_writer import write_model
from safetensors.torch import load_file, save_file

from firsttoken.checkpoint import Checkpoint
from firsttoken.checkpoint_sources import write_folder
from firsttoken.checkpoint_sources.get import get
from firsttoken.checkpoint_sources.write_folder import note_of
from firsttoken.errors import FirstTokenError
from firsttoken.gguf_file.checkpoint import GgufCheckpoint
from firsttoken.tokenizer import Tokenizer


def test_transformers_reads_it(tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setattr(write_folder, "BLOCK_VALUES", 1000)  # several blocks of every tensor
    model = random_model("llama3")
    model.config.rope_parameters = {"rope_type": "default", "rope_theta": 500000.0}
    path = write_model(tmp_path / "model.gguf", model, {"up_proj.weight": "F16", "down_proj.weight": "Q8_0"})
    folder = get(path, tmp_path / "folder")
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with GgufCheckpoint(path) as source:
        for name, weight in theirs.state_dict().items():
            assert np.array_equal(source.rows(name).reshape(weight.shape), weight.numpy()), name
    text = "def f(x): return 12345"
    assert AutoTokenizer.from_pretrained(folder)(text)["input_ids"] == Tokenizer(folder).encode(text)


def test_the_note_goes_along_and_only_with_these_weights(tmp_path):
    path = write_model(tmp_path / "model.gguf", random_model("qwen2"), {"down_proj.weight": "Q4_0"})
    folder = get(path, tmp_path / "folder")
    assert "2 tensors in Q4_0" in note_of(Checkpoint(folder))
    origin = json.loads((folder / "origin.json").read_text())
    assert origin["made of"] == {"checkpoint": "model", "fingerprint": GgufCheckpoint(path).fingerprint()}
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "model.norm.weight": tensors["model.norm.weight"] + 1}, folder / "model.safetensors")
    assert note_of(Checkpoint(folder)) is None


def test_destinations(tmp_path, tiny_checkpoint):
    out = tmp_path / "out"
    get(tiny_checkpoint, out)
    with pytest.raises(FirstTokenError, match="exists; replace it with --force"):
        get(tiny_checkpoint, out)
    get(tiny_checkpoint, out, force=True)
    with pytest.raises(FirstTokenError, match="is the checkpoint itself"):
        get(tiny_checkpoint, tiny_checkpoint, force=True)
    with pytest.raises(FirstTokenError, match="add -o FOLDER"):
        get(tiny_checkpoint, adapter=tmp_path)
    assert get(tiny_checkpoint) == tiny_checkpoint


def test_a_failure_leaves_nothing(tmp_path, tiny_checkpoint):
    tensors = load_file(tiny_checkpoint / "model.safetensors")
    last = sorted(tensors)[-1]
    tensors[last] = torch.full_like(tensors[last], float("nan"))
    save_file(tensors, tiny_checkpoint / "model.safetensors")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FirstTokenError, match="holds NaN"):
        get(tiny_checkpoint, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_no_room(tmp_path, tiny_checkpoint, monkeypatch):
    import os
    from types import SimpleNamespace

    monkeypatch.setattr(os, "statvfs", lambda place: SimpleNamespace(f_bavail=1, f_frsize=4096))
    with pytest.raises(FirstTokenError, match="needs .*, there is 4 KiB; free some space"):
        get(tiny_checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()
