import numpy as np
import pytest

from firsttoken.backends.tflite.quantize import quantize_int4, quantize_int8, round_to_bfloat16


def test_int8_error_is_at_most_half_a_step():
    rows = np.random.default_rng(0).normal(size=(64, 96)).astype(np.float32)
    values, scales = quantize_int8(rows)
    assert values.dtype == np.int8 and np.abs(values).max() == 127
    assert np.all(np.abs(values * scales[:, None] - rows) <= scales[:, None] * 0.5001)


def test_int8_of_a_zero_row_stays_zero():
    values, scales = quantize_int8(np.zeros((2, 8), np.float32))
    assert not values.any() and np.all(scales > 0) and np.isfinite(scales).all()


def unpack(packed):
    low, high = (packed & 0x0F).astype(np.int8), (packed >> 4).astype(np.int8)
    both = np.stack([low, high], -1).reshape(packed.shape[0], -1)
    return np.where(both > 7, both - 16, both)


@pytest.mark.parametrize("group", [32, 64])
def test_int4_groups_have_their_own_scales(group):
    rows = np.random.default_rng(1).normal(size=(16, 128)).astype(np.float32)
    rows[:, :group] *= 100
    packed, scales = quantize_int4(rows, group)
    restored = unpack(packed) * np.repeat(scales.astype(np.float32), group, axis=1)
    assert packed.shape == (16, 64) and scales.shape == (16, 128 // group)
    assert np.all(np.abs(restored - rows) <= np.repeat(scales.astype(np.float32), group, axis=1) * 0.54)


def test_an_int4_row_of_one_scale_keeps_it_in_float32():
    rows = np.random.default_rng(3).normal(size=(16, 128)).astype(np.float32)
    packed, scales = quantize_int4(rows, 128)
    assert scales.dtype == np.float32 and np.array_equal(scales[:, 0], np.abs(rows).max(1) / np.float32(7))
    assert np.all(np.abs(unpack(packed) * scales - rows) <= scales * 0.5001)


def test_bfloat16_rounds_to_nearest_even():
    import torch

    values = np.random.default_rng(2).normal(size=1000).astype(np.float32)
    expected = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    assert np.array_equal(round_to_bfloat16(values), expected)
