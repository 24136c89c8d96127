"""Weights that AutoGPTQ packed (scripts/gptq_fixtures.py), read to what its own class makes of them; damaged ones are refused by name."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from firsttoken.checkpoint import Checkpoint
from firsttoken.errors import FirstTokenError
from firsttoken.quantized.checkpoint import QuantizedCheckpoint
from firsttoken.weight_source import Source

FIXTURE = Path(__file__).with_name("auto_gptq.safetensors")
CASES = ("int4-g32", "int8-g32", "int4-row", "int8-row", "int4-shifted", "int4-act-order")


def folder_of(tmp_path, case, **said):
    """A checkpoint folder with the one weight of a case."""
    made = tmp_path / case
    made.mkdir()
    tensors = {name: value for name, value in load_file(FIXTURE).items() if name.startswith(f"{case}.")}
    save_file(tensors, made / "model.safetensors")
    group = -1 if case.endswith("row") else 32
    scheme = {"quant_method": "gptq", "bits": int(case[3]), "group_size": group, **said}
    (made / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": scheme}))
    return made


def opened(folder):
    return QuantizedCheckpoint(Checkpoint(folder))


@pytest.mark.parametrize("case", CASES)
def test_equal_to_auto_gptq_bit_for_bit(tmp_path, case):
    with safe_open(FIXTURE, "numpy") as file:
        expected = file.metadata()[case]
    with opened(folder_of(tmp_path, case)) as checkpoint:
        name = f"{case}.weight"
        assert list(checkpoint.tensors) == [name] and checkpoint.stored(name).shape == (32, 64)
        whole = checkpoint.rows(name)
        assert (
            hashlib.sha256(np.ascontiguousarray(whole.astype(np.float16)).tobytes()).hexdigest() == expected
        )  # float16 as its class multiplies
        for start, stop in ((0, 1), (7, 9), (31, 32), (5, 5)):
            assert np.array_equal(checkpoint.rows(name, start, stop), whole[start:stop])
        lattice = checkpoint.lattice(Source(name))
        if case in ("int4-shifted", "int4-act-order"):
            assert lattice is None and any("cannot be kept" in line for line in checkpoint.remarks)
            return
        assert lattice is not None
        assert (lattice.precision, lattice.group) == (case[:4], None if case.endswith("row") else 32)
        scales = checkpoint.stored_scales(Source(name))
        integers = whole.reshape(32, scales.shape[1], -1) / scales[:, :, None]
        assert np.abs(integers - np.rint(integers)).max() < 1e-4 and np.abs(integers).max() > 6


def test_the_newer_format_stores_zero_points_as_they_are(tmp_path):
    made = folder_of(tmp_path, "int4-g32")
    tensors = load_file(made / "model.safetensors")
    with opened(made) as old:
        expected = old.rows("int4-g32.weight")
    tensors["int4-g32.qzeros"] = (tensors["int4-g32.qzeros"].view(np.uint32) + np.uint32(0x11111111)).view(np.int32)
    newer = tmp_path / "newer"
    newer.mkdir()
    save_file(tensors, newer / "model.safetensors")
    said = json.loads((made / "config.json").read_text())
    said["quantization_config"]["checkpoint_format"] = "gptq_v2"
    (newer / "config.json").write_text(json.dumps(said))
    with opened(newer) as checkpoint:
        assert np.array_equal(checkpoint.rows("int4-g32.weight"), expected)


def broken(change):
    """A damage of the tensors of a folder."""

    def damage(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return damage


DAMAGES = {
    "no scales": (lambda t: t.pop("int4-g32.scales"), r"'int4-g32.scales' is missing"),
    "scales of another shape": (
        lambda t: t.update({"int4-g32.scales": np.ones((3, 32), np.float16)}),
        r"'int4-g32.scales' is \[3, 32\]; expected \[2, 32\]",
    ),
    "zero points too few": (lambda t: t.update({"int4-g32.qzeros": np.zeros((1, 4), np.int32)}), r"qzeros' is \[1, 4\]; expected \[2, 4\]"),
    "packed as floats": (lambda t: t.update({"int4-g32.qweight": np.ones((8, 32), np.float32)}), r"is stored as F32; expected I32"),
    "group out of range": (
        lambda t: t.update({"int4-g32.g_idx": np.full(64, 2, np.int32)}),
        r"g_idx' puts a column into group 2; expected 0 to 1",
    ),
    "group below zero": (lambda t: t.update({"int4-g32.g_idx": np.arange(64, dtype=np.int32) - 5}), "into group -5"),
    "g_idx of another length": (lambda t: t.update({"int4-g32.g_idx": np.zeros(63, np.int32)}), r"g_idx' is \[63\]; expected \[64\]"),
    "columns that do not divide": (
        lambda t: t.update({"int4-g32.qweight": np.zeros((5, 32), np.int32)}),
        r"columns that divide into groups of 32",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=DAMAGES)
def test_damaged_tensors_are_refused_by_name(tmp_path, damage):
    change, message = DAMAGES[damage]
    made = folder_of(tmp_path, "int4-g32")
    broken(change)(made)
    with pytest.raises(FirstTokenError, match=message):
        opened(made)


def test_nan_scales_are_refused_when_they_are_read(tmp_path):
    made = folder_of(tmp_path, "int4-g32")
    broken(lambda t: t.update({"int4-g32.scales": np.full((2, 32), np.nan, np.float16)}))(made)
    with opened(made) as checkpoint, pytest.raises(FirstTokenError, match=r"'int4-g32.scales' holds NaN"):
        checkpoint.rows("int4-g32.weight", 0, 1)


def test_another_number_of_bits_than_config_json_says(tmp_path):
    made = folder_of(tmp_path, "int4-g32", bits=8)
    with pytest.raises(FirstTokenError, match="expected"):
        opened(made)
    shutil.rmtree(made)
