"""The integers of one matrix: against the textbook's loop, and what they are good for."""

import numpy as np
import pytest
import torch

from firsttoken.calibration.gptq import DAMPING, best_scales, bounds, gptq, storable

SHAPES = [(4, 32), (4, 128), (4, 256), (8, 256)]


@pytest.fixture(scope="module")
def layer():
    """A weight, inputs that move together, one of them twenty times as large, one always 0; and their second moments."""
    generator = torch.Generator().manual_seed(0)
    weight = 0.05 * torch.randn(96, 256, generator=generator)
    inputs = torch.randn(1500, 24, generator=generator) @ torch.randn(24, 256, generator=generator)
    inputs += 0.1 * torch.randn(1500, 256, generator=generator)
    inputs[:, 5] *= 20
    inputs[:, 9] = 0
    return weight, inputs, inputs.T @ inputs


def nearest(weight, bits, group):
    low, high = bounds(bits)
    grouped = weight.unflatten(1, (-1, group))
    scales = storable(grouped.abs().amax(2) / high)[:, :, None]
    return ((grouped / scales).round().clamp(low, high) * scales).flatten(1)


@pytest.mark.parametrize(("bits", "group"), SHAPES)
def test_far_nearer_than_rounding(layer, bits, group):
    weight, inputs, moments = layer
    found = gptq(weight, moments, bits, group)
    low, high = bounds(bits)
    assert found.values.dtype == torch.int8 and low <= found.values.min() and found.values.max() <= high
    assert found.scales.shape == (96, 256 // group) and torch.equal(storable(found.scales), found.scales)
    assert found.damping == DAMPING[0]
    lost, rounded = (float(((kept - weight) @ inputs.T).square().mean()) for kept in (found.weight(), nearest(weight, bits, group)))
    assert lost < rounded / 10


@pytest.mark.parametrize(("bits", "group"), SHAPES[:2])
def test_as_the_textbook_has_it(layer, bits, group):
    """Column by column with the inverse itself, updated after each (Frantar and Alistarh 2022, arXiv 2208.11580, eq. 3 and 4), in double."""
    weight, _, moments = layer
    weight, moments = weight[:6], moments.double().numpy()
    silent = moments.diagonal() == 0
    moments = moments + np.diag(silent.astype(float))
    scales = gptq(weight, torch.from_numpy(moments - np.diag(silent.astype(float))).float(), bits, group).scales
    order = np.argsort(-np.where(silent, -1, moments.diagonal()), kind="stable")
    damped = moments + np.eye(256) * DAMPING[0] * moments.diagonal().mean()
    inverse, left = np.linalg.inv(damped), weight.double().numpy().copy()
    wanted, (low, high) = np.empty(left.shape), bounds(bits)
    for column in order:
        scale = scales[:, column // group].double().numpy()
        wanted[:, column] = np.clip(np.rint(left[:, column] / scale), low, high)
        error = (left[:, column] - wanted[:, column] * scale) / inverse[column, column]
        left -= error[:, None] * inverse[column]
        inverse -= np.outer(inverse[:, column], inverse[column]) / inverse[column, column]
    found = gptq(weight, layer[2], bits, group).values.numpy()
    assert np.mean(found != wanted) < 0.005  # float32 decides a tie the other way now and then


def test_inputs_that_were_always_zero_round_to_the_nearest(layer):
    weight, _, moments = layer
    found = gptq(weight, moments, 8, 256)
    assert torch.equal(found.values[:, 9], (weight[:, 9] / found.scales[:, 0]).round().clamp(-127, 127).to(torch.int8))
    nothing = gptq(weight, torch.zeros(256, 256), 4, 32)  # no input at all: the nearest everywhere
    assert torch.equal(nothing.weight(), nearest_with(weight, nothing.scales))


def nearest_with(weight, scales):
    grouped, scales = weight.unflatten(1, (-1, 32)), scales[:, :, None]
    return ((grouped / scales).round().clamp(-8, 7) * scales).flatten(1)


def test_large_inputs_get_the_finer_scale(layer):
    weight, _, _ = layer
    importance = torch.ones(256)
    importance[::32] = 1e6
    plain, weighed = (best_scales(weight, each, 4, 32) for each in (torch.ones(256), importance))
    lost = [float((nearest_with(weight, scales) - weight)[:, ::32].square().mean()) for scales in (plain, weighed)]
    assert lost[1] < lost[0] / 4


def test_moments_of_few_tokens_and_of_none(layer):
    weight, inputs, _ = layer
    few = inputs[:3].T @ inputs[:3]  # rank 3
    found = gptq(weight, few, 4, 32)
    assert torch.isfinite(found.weight()).all()
    with pytest.raises(ArithmeticError, match="cannot be inverted, even with 10 times its mean"):
        gptq(weight, torch.full((256, 256), torch.nan), 4, 32)
    with pytest.raises(ArithmeticError):
        gptq(weight, -layer[2] * torch.eye(256) - torch.eye(256), 4, 32)  # no sum of squares


def test_zero_rows_keep_a_scale(layer):
    weight = layer[0].clone()
    weight[3] = 0
    found = gptq(weight, layer[2], 4, 32)
    assert (found.scales > 0).all() and not found.values[3].any()
