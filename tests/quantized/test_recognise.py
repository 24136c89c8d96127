"""Which floats are integers times scales: found in every stored type that can show it, and nowhere else."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from firsttoken.checkpoint import Checkpoint
from firsttoken.quantized.recognise import UNITS, is_lattice, recognised, unit_of
from firsttoken.weight_source import Source

ROWS, COLUMNS = 40, 128


def weights(bits, group, seed=0, lowest=-8):
    """Integers and scales of a random weight: in every group one integer is the largest that there is, of either sign."""
    random = np.random.default_rng(seed)
    high = 2 ** (bits - 1)
    integers = random.integers(-high + 1, high, (ROWS, COLUMNS // group, group)).astype(np.float32)
    integers[:, :, 0] = random.choice([-high, high], (ROWS, COLUMNS // group))
    scales = random.uniform(0.001, 0.1, (ROWS, COLUMNS // group)).astype(np.float32)
    return integers, scales


def saved(folder, values, dtype):
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"w": torch.from_numpy(values).to(dtype)}, folder / "model.safetensors")
    return Checkpoint(folder)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_int4_in_every_stored_type(tmp_path, dtype, group):
    integers, scales = weights(4, group)
    with saved(tmp_path / "w", (integers * scales[:, :, None]).reshape(ROWS, COLUMNS), dtype) as checkpoint:
        for asked in (32, 64, 128):
            assert is_lattice(checkpoint, Source("w"), (ROWS, COLUMNS), asked, "int4") == (asked <= group)
        unit = unit_of(checkpoint, Source("w"), "int4")
        found = recognised(checkpoint.rows("w"), group, "int4", unit)
        assert np.abs(found / scales - 1).max() < 2.0**-8
        assert np.array_equal(np.rint(checkpoint.rows("w").reshape(integers.shape) / found[:, :, None]), integers)


@pytest.mark.parametrize(("dtype", "shows"), [(torch.bfloat16, False), (torch.float16, True), (torch.float32, True)])
def test_int8_rows_where_the_type_has_the_digits(tmp_path, dtype, shows):
    integers, scales = weights(8, COLUMNS)
    with saved(tmp_path / "w", (integers * scales[:, :, None]).reshape(ROWS, COLUMNS), dtype) as checkpoint:
        assert is_lattice(checkpoint, Source("w"), (ROWS, COLUMNS), COLUMNS, "int8") == shows


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("precision", "group"), [("int4", 32), ("int8", COLUMNS)])
def test_ordinary_weights_are_on_none(tmp_path, dtype, precision, group):
    values = np.random.default_rng(3).standard_normal((ROWS, COLUMNS)).astype(np.float32) * 0.02
    with saved(tmp_path / "w", values, dtype) as checkpoint:
        assert not is_lattice(checkpoint, Source("w"), (ROWS, COLUMNS), group, precision)


def test_one_weight_off_the_lattice_is_enough(tmp_path):
    integers, scales = weights(4, 32)
    values = (integers * scales[:, :, None]).reshape(ROWS, COLUMNS)
    values[ROWS - 1, 5] += 0.3 * scales[ROWS - 1, 0]
    with saved(tmp_path / "w", values, torch.float32) as checkpoint:
        assert not is_lattice(checkpoint, Source("w"), (ROWS, COLUMNS), 32, "int4")


def test_zeros_are_no_lattice_but_may_lie_in_one(tmp_path):
    integers, scales = weights(4, 32)
    integers[3] = 0
    with saved(tmp_path / "w", (integers * scales[:, :, None]).reshape(ROWS, COLUMNS), torch.bfloat16) as checkpoint:
        assert is_lattice(checkpoint, Source("w"), (ROWS, COLUMNS), 32, "int4")
        assert (recognised(checkpoint.rows("w"), 32, "int4", UNITS["BF16"])[3] > 0).all()
    with saved(tmp_path / "zeros", np.zeros((ROWS, COLUMNS), np.float32), torch.bfloat16) as checkpoint:
        assert not is_lattice(checkpoint, Source("w"), (ROWS, COLUMNS), 32, "int4")
