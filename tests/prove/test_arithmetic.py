"""The plan's arithmetic on the host, against the libraries that define it."""

import numpy as np
import pytest
import torch

from firsttoken.backends.executorch.backend import ExecutorchXnnpack
from firsttoken.backends.tflite.quantize import quantize_int4, quantize_int8
from firsttoken.precisions import WeightGrid
from firsttoken.prove.arithmetic import Planned, round_apart, round_half, round_tokens, round_weight
from firsttoken.weight_source import Source


def matrix(seed: int = 0, rows: int = 64, columns: int = 96) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    values[3] = 0
    values[4] *= 1e-6
    values[5, 7], values[6, 9] = 40, -40
    return values


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-5, 1e-7, 1e-9, 1e3, 3e4, 7e4])
def test_halves_are_numpys_to_the_bit(size):
    values = (np.random.default_rng(1).standard_normal(20_000) * size).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16).astype(np.float32)
    assert np.array_equal(round_half(values), expected)


def test_halves_of_what_is_special():
    values = np.array([0, -0.0, 65504, 65519.9, 65520, -1e6, np.inf, -np.inf, np.nan, 2**-24, 2**-25, 2049, 2051, 1 + 2**-11], np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(np.float16).astype(np.float32)
    assert np.array_equal(round_half(values), expected, equal_nan=True)


def test_int8_rows_are_the_tflite_files():
    values = matrix()
    stored, scales = quantize_int8(values)
    assert np.array_equal(round_weight(values, "int8", WeightGrid(), 32), stored * scales.reshape(-1, 1))


@pytest.mark.parametrize("group", [32, 96])
def test_int4_groups_and_rows_are_the_tflite_files(group):
    values = matrix(1)
    packed, scales = quantize_int4(values, group)
    nibbles = np.stack([packed & 15, packed >> 4], -1).reshape(values.shape).astype(np.int8)
    integers = np.where(nibbles > 7, nibbles - 16, nibbles).reshape(len(values), -1, group)
    assert np.allclose(round_weight(values, "int4", WeightGrid(), group), (integers * scales[:, :, None].astype(np.float32)).reshape(values.shape), rtol=1e-3, atol=1e-6)  # fmt: skip


@pytest.mark.parametrize(("precision", "group", "dtype"), [("int8", 96, torch.int8), ("int4", 32, torch.int4), ("int4", 96, torch.int4)])
def test_rows_and_groups_are_torchaos(precision, group, dtype):
    from torchao.quantization import IntxUnpackedToInt8Tensor

    values = matrix(2)
    made = IntxUnpackedToInt8Tensor.from_hp(torch.from_numpy(values), (1, group), dtype)
    scale = made.scale if group == 96 else made.scale.bfloat16().float()
    expected = (made.qdata.unflatten(1, (-1, group)) * scale[:, :, None]).flatten(1).numpy()
    got = round_weight(values, precision, ExecutorchXnnpack.weight_grid, group)
    rest = [row for row in range(len(values)) if row not in (3, 4)]  # of rows that are next to nothing, each has its own smallest scale
    assert np.array_equal(got[rest], expected[rest]) and np.abs(got[[3, 4]] - expected[[3, 4]]).max() < 1e-6


def test_tokens_are_rounded_as_pytorch_does():
    import torch.ao.quantization.fx._decomposed

    states = matrix(3, 16, 200)
    states[7] = np.abs(states[7])
    operators = torch.ops.quantized_decomposed
    tokens = torch.from_numpy(states)
    scales, zeros = operators.choose_qparams_per_token_asymmetric(tokens, torch.int8)
    integers = operators.quantize_per_token(tokens, scales, zeros, -128, 127, torch.int8)
    expected = operators.dequantize_per_token(integers, scales, zeros, -128, 127, torch.int8, torch.float32).numpy()
    got = round_tokens(states)
    step = scales.numpy().reshape(-1, 1)
    assert np.abs(got - expected).max() <= 1.01 * step.max(), "a step at most, where a rounding ties"
    other = np.mean(np.abs(got - expected) > 0.01 * step, axis=1)
    assert np.sum(other > 0.01) <= 1, "a zero point may tie too, and then moves its whole token"


def test_an_overflow_is_noted_by_its_layer():
    source = Source("w")
    planned = Planned({source: "layers.0.mlp.up"}, {"layers.0.mlp.up": "fp16"}, {"fp16": "fp16"}, WeightGrid(), lambda name, columns: 32)
    small, large = np.ones((2, 4), np.float32), np.full((2, 4), 3e4, np.float32)
    planned.linear(source, small, np.ones((3, 4), np.float32), None)
    assert planned.overflow == []
    assert np.isinf(planned.linear(source, large, np.ones((3, 4), np.float32), None)).all()
    assert planned.overflow == ["layers.0.mlp.up"]


def test_outliers_by_themselves_leave_the_others_their_scale():
    states = np.random.default_rng(3).standard_normal((6, 64)).astype(np.float32)
    states[:, 5] = (40, -70, 55, 90, -35, 60)
    states[2] = 0
    plain, apart = np.abs(round_tokens(states) - states), np.abs(round_apart(states) - states)
    others = np.arange(64) != 5
    assert apart[:, others].max() < 0.3 * plain[:, others].max()
    assert apart[2].max() == 0
    limit = 2 * np.sqrt(np.square(states).mean(-1, keepdims=True))
    assert (apart <= (limit / 255 + np.abs(states).max(-1, keepdims=True) / 500) * 1.01).all()  # half a step of each of the two
