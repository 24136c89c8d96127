"""Several widths in one set of weights: each is what its own network computes, and training changes what it should."""

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from firsttoken.distill.classifiers.arch import Arch
from firsttoken.distill.classifiers.arch_model import build
from firsttoken.distill.classifiers.elastic import Elastic, ElasticDistillation
from firsttoken.distill.modules import ModuleDistillation
from firsttoken.distill.objective import Moment
from firsttoken.distill.recipe import Loss

LAYERS = [{"conv": {"channels": 8}}, "batch_norm", "relu", {"depthwise_separable": {"channels": 12}}, {"residual": {"channels": 12}}, "flatten", {"dense": {"units": 8}}, "relu", "dense"]  # fmt: skip
WIDTHS = (0.25, 0.5, 1.0)
INPUTS = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 3, 4, -100])
MOMENT = Moment(0.5, 2.0, (0.5, 0.5))
LOSSES = (Loss(kind="cross_entropy"), Loss(kind="forward_kl"))


def network(width=1.0):
    return build(TypeAdapter(Arch).validate_python(LAYERS), (1, 8, 8), 5, width)


def elastic():
    torch.manual_seed(0)
    return Elastic(network, WIDTHS)


def teacher():
    torch.manual_seed(9)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))


def test_each_width_is_the_first_channels_with_norms_of_its_own():
    made = elastic()
    outputs = {}
    for width in WIDTHS:  # in training, so that the norms of each see something else
        made.use(width)
        for _ in range(3):
            made(INPUTS * (1 + width))
    made.eval()
    for width in WIDTHS:
        made.use(width)
        alone = made.extract(width)
        outputs[width] = made(INPUTS)
        torch.testing.assert_close(alone(INPUTS), outputs[width])
        assert isinstance(alone, nn.Sequential) and alone[0].out_channels == 8 * width and alone[6].out_features == 8 * width
        assert torch.equal(alone[0].weight, made.shared[0].weight[: alone[0].out_channels])
        assert torch.equal(alone[8].weight, made.shared[8].weight[:, : alone[8].in_features])
    assert not torch.allclose(outputs[0.25], outputs[0.5], atol=1e-3)
    assert not torch.allclose(made.extract(0.5)[1].running_mean, made.shared[1].running_mean[:4], atol=1e-4)


def test_one_set_of_weights_holds_all_widths():
    made, whole = elastic(), network()
    norms = sum(
        p.numel()
        for width in WIDTHS[:-1]
        for each in network(width).modules()
        if isinstance(each, nn.BatchNorm2d)
        for p in each.parameters()
    )
    assert sum(p.numel() for p in made.parameters()) == sum(p.numel() for p in whole.parameters()) + norms
    assert not any(p.is_meta for p in (*made.parameters(), *made.buffers()))
    other = Elastic(network, WIDTHS)
    other.load_state_dict(made.state_dict())
    for width in WIDTHS:
        made.eval().use(width)
        other.eval().use(width)
        assert torch.equal(made(INPUTS), other(INPUTS))


def test_a_step_is_the_mean_over_widths_of_what_each_network_would_learn_alone():
    made = elastic().eval()
    objective = ElasticDistillation(made, teacher(), LOSSES, INPUTS).eval()
    loss, parts = objective(INPUTS, LABELS, torch.arange(6), MOMENT, 6.0)
    loss.backward()
    wanted, gradient = [], torch.zeros_like(made.shared[0].weight)
    for width in WIDTHS:
        alone = made.extract(width).eval()
        each, its_parts = ModuleDistillation(alone, teacher(), LOSSES, INPUTS).eval()(INPUTS, LABELS, torch.arange(6), MOMENT, 6.0)
        (each / 3).backward()
        gradient[: alone[0].out_channels] += alone[0].weight.grad
        wanted.append(torch.cat([each.detach()[None], its_parts]))
    torch.testing.assert_close(torch.cat([loss.detach()[None], parts]), torch.stack(wanted).mean(0))
    torch.testing.assert_close(made.shared[0].weight.grad, gradient)
    assert all(p.grad is not None for p in made.parameters())
    assert made.active == 1.0  # what is scored


def test_modes_reach_all_widths():
    made = elastic()
    made.eval()
    made.use(0.5)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    made(INPUTS)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    made.train()
    made(INPUTS)
    moved = {name.split(".")[0:2][1] for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"1"}  # the norms of that width and nothing else


@pytest.mark.parametrize("width", WIDTHS)
def test_first_weights_are_those_of_the_network_alone(width):
    torch.manual_seed(0)
    whole = network()
    assert torch.equal(elastic().extract(1.0)[0].weight, whole[0].weight)
    made = elastic()
    state = torch.get_rng_state()
    made.extract(width)
    assert torch.equal(state, torch.get_rng_state())
