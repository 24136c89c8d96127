"""Reading checkpoints: rows, dtypes, shards, and files that are hostile or damaged."""

import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from firsttoken.checkpoint import Checkpoint
from firsttoken.errors import FirstTokenError


def folder_with(tmp_path, tensors=None, name="model.safetensors", config='{"model_type": "llama"}'):
    (tmp_path / "config.json").write_text(config)
    if tensors is not None:
        save_file(tensors, tmp_path / name)
    return tmp_path


def header(tmp_path, values, data=b"", length=None):
    raw = values if isinstance(values, bytes) else json.dumps(values).encode()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return tmp_path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_in_every_float_dtype(tmp_path, dtype):
    weight = torch.randn(50, 7).to(dtype)
    checkpoint = Checkpoint(folder_with(tmp_path, {"w": weight, "v": weight[:, 0].contiguous()}))
    assert np.array_equal(checkpoint.matrix("w"), weight.float().numpy())
    assert np.array_equal(checkpoint.rows("w", 10, 13), weight[10:13].float().numpy())
    assert np.array_equal(checkpoint.vector("v"), weight[:, 0].float().numpy())
    assert checkpoint.rows("w", 5, 5).shape == (0, 7)


def test_shards_read_as_one(tmp_path):
    tensors = {f"t{n}": torch.full((3, 3), float(n)) for n in range(4)}
    folder_with(tmp_path)
    for shard in range(2):
        save_file({name: tensors[name] for name in (f"t{2 * shard}", f"t{2 * shard + 1}")}, tmp_path / f"part-{shard}.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {name: f"part-{int(name[1]) // 2}.safetensors" for name in tensors}})
    )
    checkpoint = Checkpoint(tmp_path)
    assert [float(checkpoint.matrix(name)[0, 0]) for name in sorted(tensors)] == [0, 1, 2, 3]
    assert checkpoint.weight_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/passwd", "a/b.safetensors"])
def test_an_index_cannot_leave_the_folder(tmp_path, shard):
    folder_with(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": shard}}))
    with pytest.raises(FirstTokenError, match="not a plain file name"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": {}}', '{"weight_map": {"w": 3}}', '{"weight_map": []}'])
def test_an_index_of_another_form(tmp_path, index):
    folder_with(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(FirstTokenError, match="index.json"):
        Checkpoint(tmp_path)


def test_several_files_without_an_index(tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        folder_with(tmp_path, {"w": torch.ones(1)}, name)
    with pytest.raises(FirstTokenError, match="no model.safetensors.index.json"):
        Checkpoint(tmp_path)


ENTRY = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    "values",
    [
        b"not json at all",
        b"[1, 2]",
        b"[" * 100_000,
        {"w": {**ENTRY, "shape": [2, 3]}},
        {"w": {**ENTRY, "data_offsets": [16, 0]}},
        {"w": {**ENTRY, "data_offsets": [-16, 0]}},
        {"w": {**ENTRY, "data_offsets": [16, 32]}},
        {"w": {**ENTRY, "shape": [-2, -2]}},
        {"w": {"dtype": "F32"}},
        {"w": 3},
        {"w": {**ENTRY, "shape": "ab"}},
        {"w": {**ENTRY, "shape": [10**30], "data_offsets": [0, 4 * 10**30]}},
    ],
)
def test_headers_that_lie(tmp_path, values):
    with pytest.raises(FirstTokenError, match="model.safetensors"):
        Checkpoint(header(tmp_path, values, b"\0" * 16))


@pytest.mark.parametrize("length", [0, 1, 10**6, 2**63, 2**64 - 1])
def test_header_lengths_that_lie(tmp_path, length):
    with pytest.raises(FirstTokenError, match="truncated"):
        Checkpoint(header(tmp_path, {"w": ENTRY}, b"\0" * 16, length))


def test_dtypes_that_are_not_plain_floats_are_refused_when_asked_for(tmp_path):
    checkpoint = Checkpoint(folder_with(tmp_path, {"w": torch.ones(2, 2, dtype=torch.int8)}))
    with pytest.raises(FirstTokenError, match="stored as I8.*use the original"):
        checkpoint.matrix("w")


def test_absent_tensors_are_named_with_the_nearest(tmp_path):
    checkpoint = Checkpoint(folder_with(tmp_path, {"model.norm.weight": torch.ones(2)}))
    with pytest.raises(FirstTokenError, match="did you mean 'model.norm.weight'"):
        checkpoint.vector("model.norms.weight")


def test_a_file_that_shrinks_while_open(tmp_path):
    checkpoint = Checkpoint(folder_with(tmp_path, {"w": torch.ones(1000, 10)}))
    with open(tmp_path / "model.safetensors", "r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(FirstTokenError, match="ended in the middle of tensor 'w'"):
        checkpoint.matrix("w")


def test_fingerprint_follows_weights_and_configuration(tmp_path, tiny_checkpoint):
    first = Checkpoint(tiny_checkpoint).fingerprint()
    assert first == Checkpoint(tiny_checkpoint).fingerprint()
    tensors = load_file(tiny_checkpoint / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, tiny_checkpoint / "model.safetensors")
    second = Checkpoint(tiny_checkpoint).fingerprint()
    assert second != first
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    (tiny_checkpoint / "config.json").write_text(json.dumps({**config, "rope_theta": 1.5}))
    assert Checkpoint(tiny_checkpoint).fingerprint() not in (first, second)


def test_a_stale_index_beside_the_single_file_is_not_used(tmp_path):
    """transformers takes the single file, whatever the index beside it names."""
    from families_on_disk import random_model, save
    from transformers import AutoModelForCausalLM

    save(random_model("llama2", seed=1), tmp_path, max_shard_size="100KB")
    assert (tmp_path / "model.safetensors.index.json").exists() and not Checkpoint(tmp_path).remarks
    newer = random_model("llama2", seed=2)
    save(newer, tmp_path / "newer")
    (tmp_path / "newer/model.safetensors").rename(tmp_path / "model.safetensors")
    checkpoint, name = Checkpoint(tmp_path), "model.layers.1.mlp.down_proj.weight"
    assert np.array_equal(checkpoint.matrix(name), newer.state_dict()[name].numpy())
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert np.array_equal(checkpoint.matrix(name), theirs.state_dict()[name].numpy())
    assert len(checkpoint.remarks) == 1 and "index.json: not used" in checkpoint.remarks[0]


SECOND = {**ENTRY, "data_offsets": [16, 32]}


@pytest.mark.parametrize(
    ("values", "data", "said"),
    [
        ({"w": {**ENTRY, "data_offsets": [4, 20]}}, 20, "4 bytes before tensor 'w' belong to no tensor"),
        ({"w": ENTRY, "v": {**ENTRY, "data_offsets": [20, 36]}}, 36, "4 bytes before tensor 'v' belong to no tensor"),
        ({"w": ENTRY, "v": {**ENTRY, "data_offsets": [8, 24]}}, 24, "share bytes"),
        ({"w": ENTRY, "v": SECOND}, 40, "end at byte .* expected them to fill it"),
        ({"__metadata__": {"a": "b"}}, 8, "expected them to fill it"),
    ],
)
def test_a_file_that_its_tensors_do_not_fill(tmp_path, values, data, said):
    """As the safetensors library itself, which refuses each of these files."""
    from safetensors import SafetensorError, safe_open

    header(tmp_path, values, b"\0" * data)
    with pytest.raises(SafetensorError):
        safe_open(tmp_path / "model.safetensors", "np")
    with pytest.raises(FirstTokenError, match=said):
        Checkpoint(tmp_path)


def test_a_file_that_its_tensors_fill_is_read_as_safetensors_reads_it(tmp_path):
    from safetensors import safe_open

    data = np.arange(8, dtype=np.float32)
    header(tmp_path, {"v": SECOND, "empty": {"dtype": "F32", "shape": [0, 2], "data_offsets": [16, 16]}, "w": ENTRY}, data.tobytes())
    checkpoint = Checkpoint(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "np") as theirs:
        for name in ("v", "w", "empty"):
            assert np.array_equal(checkpoint.matrix(name), theirs.get_tensor(name))
