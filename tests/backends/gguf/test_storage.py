"""Rows as GGUF's blocks: the package's own rounding, and integers that were chosen before."""

import gguf
import numpy as np
import pytest

from firsttoken.backends.gguf.storage import PRECISIONS, TYPES, stored_rows
from firsttoken.backends.gguf.tensors import Tensor, Weight, bytes_of, interleave
from firsttoken.errors import FirstTokenError
from firsttoken.weight_source import Source


def values(raw: np.ndarray, precision: str) -> np.ndarray:
    return gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[TYPES[precision]]).astype(np.float32)


@pytest.mark.parametrize(("precision", "part"), [("fp32", 0), ("fp16", 2**-11), ("int8", 1 / 200), ("int4", 1 / 12)])
def test_rows_come_back_within_their_type(precision, part):
    rows = np.random.default_rng(0).standard_normal((7, 64)).astype(np.float32)
    read = values(stored_rows(rows, precision, None, "layer"), precision)
    largest = np.abs(rows).reshape(7, 2, 32).max(2).repeat(32, 1)
    assert (np.abs(read - rows) <= part * largest).all() and PRECISIONS[TYPES[precision]] == precision


@pytest.mark.parametrize(("precision", "lowest", "groups"), [("int8", -128, 1), ("int4", -8, 2), ("int4", -8, 4)])
def test_chosen_integers_stay_as_they_are(precision, lowest, groups):
    """Rounding to the largest weight, which Q4_0 does, would move them: GPTQ's, and a checkpoint's own."""
    scales = np.random.default_rng(1).uniform(0.01, 0.02, (6, groups)).astype(np.float16).astype(np.float32)
    integers = np.random.default_rng(2).integers(lowest, -lowest, (6, 128))
    rows = (integers * scales.repeat(128 // groups, 1)).astype(np.float32)
    assert np.array_equal(values(stored_rows(rows, precision, scales, "layer"), precision), rows)
    assert not np.array_equal(values(stored_rows(rows, precision, None, "layer"), precision), rows)


def test_what_does_not_fit_half_precision_is_refused_by_name():
    rows = np.ones((2, 32), np.float32)
    rows[1, 5] = 70000
    with pytest.raises(FirstTokenError, match="layers.1.mlp.up: weight 70000 does not fit FP16"):
        stored_rows(rows, "fp16", None, "layers.1.mlp.up")


def test_halves_of_a_head_side_by_side():
    assert interleave(8).tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


def test_bytes_are_those_of_the_package():
    for precision, kind in TYPES.items():
        tensor = Tensor("blk.0.ffn_up.weight", precision, [Weight("layers.0.mlp.up", Source("up"), 6, 64)])
        raw = stored_rows(np.ones((6, 64), np.float32), precision, None, "layer")
        values_of_a_block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
        assert bytes_of(tensor) == raw.nbytes == 6 * 64 // values_of_a_block * size and tensor.shape == (6, 64)
