"""Pruning channels: against torch's own structured pruning, and small networks against masked ones."""

import copy
from itertools import pairwise

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn
from torch.nn.utils import prune as torch_prune

from firsttoken.distill.classifiers.arch import Arch
from firsttoken.distill.classifiers.arch_model import build
from firsttoken.distill.classifiers.models import cnn
from firsttoken.distill.classifiers.prune import count_parameters, coupled_channels, mask, need_torch_pruning, plan_steps, pruned, weakest
from firsttoken.distill.classifiers.recipe import Prune
from firsttoken.distill.models import parameters_of
from firsttoken.errors import FirstTokenError

EXAMPLE = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
LAYERS = {
    "plain": [{"conv": {"channels": 8}}, "batch_norm", "relu", {"max_pool": {}}, {"conv": {"channels": 10}}, "relu", "flatten", {"dense": {"units": 9}}, "dense"],
    "shortcuts": [
        {"conv": {"channels": 8}}, "batch_norm", "relu", {"residual": {"channels": 8}}, {"residual": {"channels": 8}},
        {"residual": {"channels": 12, "stride": 2}}, {"residual": {"channels": 12}}, "global_average_pool", "dense",
    ],
    "separable": [
        {"conv": {"channels": 8}}, "relu", {"depthwise_separable": {"channels": 12}}, {"depthwise_separable": {"channels": 12, "stride": 2}},
        "global_average_pool", "dense",
    ],
}  # fmt: skip


def network(name):
    torch.manual_seed(0)
    made = build(TypeAdapter(Arch).validate_python(LAYERS[name]), (1, 8, 8), 10)
    for each in made.modules():
        if isinstance(each, nn.BatchNorm2d):
            nn.init.normal_(each.weight, 1.0, 0.3)
            nn.init.normal_(each.bias, 0.2, 0.3)
            nn.init.normal_(each.running_mean, 0.0, 0.3)
    return made.eval()


@pytest.mark.parametrize("name", LAYERS)
def test_the_small_network_gives_the_numbers_of_the_masked_one(name):
    model = network(name)
    groups = coupled_channels(model, EXAMPLE)
    widths = plan_steps(model, EXAMPLE, Prune(keep=0.5, most_per_step=1))[-1]
    small, masked = pruned(model, EXAMPLE, widths), copy.deepcopy(model)
    for group in groups:
        mask(masked, group, weakest(model, group, group.channels - widths[group.name]))
    inputs = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(small(inputs), masked(inputs))
    assert (small(inputs) - model(inputs)).abs().max() > 1e-3
    torch.testing.assert_close(small.train()(inputs), masked.train()(inputs))  # norms with the batch's own means, too
    assert parameters_of(small) == count_parameters(model, groups, widths) < parameters_of(model) / 2


def test_what_leaves_is_what_torch_leaves_out():
    """`ln_structured` masks the filters with the smallest L1 norm; a mask of filters before batch norm alone is not ours, without it it is."""
    torch.manual_seed(3)
    model = cnn(10).eval()
    groups = {each.name: each for each in coupled_channels(model, EXAMPLE)}
    assert set(groups) == {"0", "3"}
    theirs = copy.deepcopy(model)
    for name in groups:
        torch_prune.ln_structured(theirs.get_submodule(name), "weight", amount=4, n=1, dim=0)
        silent = theirs.get_submodule(name).weight.detach().flatten(1).abs().sum(1) == 0
        assert weakest(model, groups[name], 4) == silent.nonzero().flatten().tolist()
        theirs.get_submodule(name).bias.data[silent] = 0
    torch.testing.assert_close(pruned(model, EXAMPLE, {"0": 6, "3": 6})(EXAMPLE), theirs(EXAMPLE))


def test_channels_around_a_shortcut_are_one_set_ranked_by_all_that_make_them():
    model = network("shortcuts")
    groups = {each.name: each for each in coupled_channels(model, EXAMPLE)}
    assert groups["0"].makers == ("0", "3.conv2", "4.conv2") and set(groups["5.conv2"].makers) == {"5.conv2", "5.shortcut.0", "6.conv2"}
    assert {"3.conv1", "4.conv1", "5.conv1", "6.conv1"} <= set(groups)  # inside a block they are free
    for name, channel in (("0", 3), ("3.conv2", 3), ("4.conv2", 3), ("4.conv2", 5)):
        model.get_submodule(name).weight.data[channel] *= 1e-3
    assert weakest(model, groups["0"], 2) == [3, 5]
    small = pruned(model, EXAMPLE, {name: each.channels - 2 * (name == "0") for name, each in groups.items()})
    kept = [0, 1, 2, 4, 6, 7]
    assert torch.equal(small.get_submodule("0").weight, model.get_submodule("0").weight[kept])
    assert torch.equal(small.get_submodule("5.shortcut.0").weight, model.get_submodule("5.shortcut.0").weight[:, kept])
    assert torch.equal(small.get_submodule("3.norm2").running_mean, model.get_submodule("3.norm2").running_mean[kept])


@pytest.mark.parametrize("name", LAYERS)
def test_no_step_takes_more_than_it_may(name):
    model, prune = network(name), Prune(keep=0.5, most_per_step=0.15)
    steps = plan_steps(model, EXAMPLE, prune)
    groups = coupled_channels(model, EXAMPLE)
    sizes, small = [parameters_of(model)], model
    for widths in steps:
        small = pruned(small, EXAMPLE, widths)
        sizes.append(parameters_of(small))
    assert all(0 < 1 - after / before <= 0.15 for before, after in pairwise(sizes))
    assert sizes[1:] == [count_parameters(model, groups, widths) for widths in steps]
    assert {each.name: each.channels for each in coupled_channels(small, EXAMPLE)} == {
        each.name: round(each.channels / 2) for each in groups
    }


def test_a_convolution_of_single_channels_of_the_picture_stays():
    layers = [{"depthwise_separable": {"channels": 6}}, "global_average_pool", "dense"]
    model = build(TypeAdapter(Arch).validate_python(layers), (3, 8, 8), 10)
    assert [each.name for each in coupled_channels(model, torch.randn(2, 3, 8, 8))] == ["0.pointwise"]


@pytest.mark.parametrize(
    "model,prune,message",
    [
        (cnn(8), Prune(keep=0.5, most_per_step=0.01), "most_per_step 0.01 is less than one channel of layer '3'"),
        (cnn(2), Prune(keep=0.9), "keep 0.9 leaves every channel where it is"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), Prune(keep=0.5), "no convolution whose channels could leave"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.LayerNorm(6), nn.Flatten(), nn.Linear(144, 10)), Prune(keep=0.5), "layer '1' is a LayerNorm"),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1, groups=2), nn.Flatten(), nn.Linear(256, 2)), Prune(keep=0.5), "has 2 groups"),
    ],
)
def test_what_cannot_be_pruned_is_named(model, prune, message):
    with pytest.raises(FirstTokenError, match=message):
        plan_steps(model, EXAMPLE, prune)


def test_classes_do_not_leave():
    """A network whose last convolution gives the classes: what is left would no longer be its answers."""
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    widths = plan_steps(model, EXAMPLE, Prune(keep=0.5, most_per_step=1))[-1]
    with pytest.raises(FirstTokenError, match="the classes have to come from a linear layer"):
        pruned(model, EXAMPLE, widths)


def test_without_torch_pruning(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(FirstTokenError, match=r"pruning channels needs torch_pruning.*firsttoken\[prune\]"):
        need_torch_pruning()
