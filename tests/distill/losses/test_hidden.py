"""Hidden-state losses against numpy, projections and layer pairs."""

import numpy as np
import pytest
import torch

from firsttoken.distill.losses.hidden import Projection, hidden_cosine, hidden_l2, layer_pairs, positions_of


def states(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_l2_and_cosine_against_numpy():
    ours, theirs = states(0, 2, 5, 7), states(1, 2, 5, 7)
    a, b = ours.numpy(), theirs.numpy()
    np.testing.assert_allclose(hidden_l2(ours, theirs), ((a - b) ** 2).mean(-1))
    np.testing.assert_allclose(hidden_l2(ours, theirs, relative=True), ((a - b) ** 2).sum(-1) / (b**2).sum(-1))
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    np.testing.assert_allclose(hidden_cosine(ours, theirs), 1 - cosine)


def test_gradients():
    ours, theirs = states(2, 3, 4).requires_grad_(), states(3, 3, 4)
    for loss in (hidden_l2, lambda a, b: hidden_l2(a, b, relative=True), hidden_cosine):
        assert torch.autograd.gradcheck(lambda a, loss=loss: loss(a, theirs), ours)


def test_the_relative_loss_does_not_depend_on_the_scale_of_the_model():
    ours, theirs = states(4, 5, 8), states(5, 5, 8)
    torch.testing.assert_close(hidden_l2(100 * ours, 100 * theirs, relative=True), hidden_l2(ours, theirs, relative=True))
    assert torch.isfinite(hidden_l2(ours, torch.zeros_like(theirs), relative=True)).all()


@pytest.mark.parametrize("feature_maps", [False, True])
def test_a_projection_starts_as_the_identity_on_the_shared_width(feature_maps):
    shape = (2, 4, 3, 3) if feature_maps else (2, 3, 4)
    given = states(6, *shape).float()
    torch.testing.assert_close(Projection(4, 4, feature_maps)(given), given)
    wider = Projection(4, 6, feature_maps)(given)
    assert wider.shape == ((2, 6, 3, 3) if feature_maps else (2, 3, 6))
    narrower = Projection(4, 2, feature_maps)(given)
    assert narrower.shape == ((2, 2, 3, 3) if feature_maps else (2, 3, 2))


def test_a_1x1_convolution_is_the_linear_map_at_every_place():
    maps = states(7, 2, 4, 3, 5).float()
    convolution, linear = Projection(4, 6, True), Projection(4, 6)
    linear.map.weight.data = convolution.map.weight.data[:, :, 0, 0]
    torch.testing.assert_close(positions_of(convolution(maps)), linear(positions_of(maps)))


def test_shapes_are_not_broadcast():
    with pytest.raises(ValueError, match="differ in shape"):
        hidden_l2(states(0, 2, 3, 4), states(1, 2, 1, 4))


@pytest.mark.parametrize(
    "student,teacher,expected",
    [
        (2, 4, [(0, 1), (1, 3)]),
        (4, 4, [(0, 0), (1, 1), (2, 2), (3, 3)]),
        (3, 8, [(0, 2), (1, 4), (2, 7)]),
        (1, 12, [(0, 11)]),
        (4, 2, [(0, 0), (1, 0), (2, 1), (3, 1)]),
    ],
)
def test_automatic_pairs(student, teacher, expected):
    assert layer_pairs(student, teacher) == expected


def test_no_layers_no_pairs():
    with pytest.raises(ValueError, match="at least one"):
        layer_pairs(0, 3)
