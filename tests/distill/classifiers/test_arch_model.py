"""Networks of an ``arch``, against the ResNet and MobileNet of transformers with the same weights."""

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from firsttoken.distill.classifiers.arch import Arch
from firsttoken.distill.classifiers.arch_model import Residual, build, depthwise_separable
from firsttoken.distill.models import parameters_of


def made(layers, shape=(1, 8, 8), classes=10, width=1.0):
    return build(TypeAdapter(Arch).validate_python(layers), shape, classes, width)


def unsettled(module):
    """Norms that have seen something, so that none is the identity."""
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            for tensor in (each.weight, each.bias, each.running_mean):
                nn.init.normal_(tensor, 1.0, 0.3)
            nn.init.uniform_(each.running_var, 0.5, 2)
    return module.eval()


def renamed(state, names):
    """Tensors under other names; all have to have one."""
    found = {next(new + key.removeprefix(old) for old, new in names.items() if key.startswith(old)): value for key, value in state.items()}
    assert len(found) == len(state)
    return found


@pytest.mark.parametrize("before,after,stride", [(6, 6, 1), (4, 6, 1), (6, 6, 2)])
def test_a_residual_is_the_basic_block_of_transformers_resnet(before, after, stride):
    from transformers.models.resnet.modeling_resnet import ResNetBasicLayer

    torch.manual_seed(0)
    ours, theirs = unsettled(Residual(before, after, stride=stride)), ResNetBasicLayer(before, after, stride).eval()
    names = {
        "conv1": "layer.0.convolution", "norm1": "layer.0.normalization", "conv2": "layer.1.convolution", "norm2": "layer.1.normalization",
        "shortcut.0": "shortcut.convolution", "shortcut.1": "shortcut.normalization",
    }  # fmt: skip
    theirs.load_state_dict(renamed(ours.state_dict(), names))
    inputs = torch.randn(3, before, 9, 9)
    torch.testing.assert_close(ours(inputs), theirs(inputs))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_depthwise_separable_convolution_is_transformers_mobilenets(stride):
    from transformers import MobileNetV1Config
    from transformers.models.mobilenet_v1.modeling_mobilenet_v1 import MobileNetV1ConvLayer

    config = MobileNetV1Config(hidden_act="relu", layer_norm_eps=1e-5, tf_padding=False)
    torch.manual_seed(0)
    ours = unsettled(depthwise_separable(4, 6, stride=stride))
    theirs = nn.Sequential(MobileNetV1ConvLayer(config, 4, 4, 3, stride, groups=4), MobileNetV1ConvLayer(config, 4, 6, 1)).eval()
    names = {"depthwise": "0.convolution", "norm1": "0.normalization", "pointwise": "1.convolution", "norm2": "1.normalization"}
    theirs.load_state_dict(renamed(ours.state_dict(), names))
    inputs = torch.randn(3, 4, 9, 9)
    torch.testing.assert_close(ours(inputs), theirs(inputs))


def test_layers_stand_in_their_order_with_their_arguments():
    network = made(
        [
            {"conv": {"channels": 8, "kernel": 5, "stride": 2}},
            "batch_norm",
            "relu",
            {"average_pool": {"size": 2}},
            {"dropout": {"rate": 0.25}},
            "flatten",
            {"dense": {"units": 7}},
            "dense",
        ],
        (3, 10, 12),
        4,
    )
    kinds = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.AvgPool2d, nn.Dropout, nn.Flatten, nn.Linear, nn.Linear]
    assert [type(each) for each in network] == kinds
    assert network[0].stride == (2, 2) and network[0].kernel_size == (5, 5) and network[4].p == 0.25
    assert network(torch.randn(2, 3, 10, 12)).shape == (2, 4)
    assert parameters_of(network) == 8 * (3 * 25 + 1) + 2 * 8 + 7 * (8 * 2 * 3 + 1) + 4 * 8


def test_global_average_pooling_takes_pictures_of_any_size():
    network = made(
        [{"conv": {"channels": 5}}, {"depthwise_separable": {"channels": 6}}, {"residual": {"channels": 6}}, "global_average_pool", "dense"]
    )
    network.eval()
    for size in (8, 13):
        inputs = torch.randn(2, 1, size, size)
        maps = network[:3](inputs)
        torch.testing.assert_close(network(inputs), network[4](maps.mean((2, 3))))


def test_a_width_scales_channels_and_units_but_not_classes():
    layers = [{"conv": {"channels": 8}}, {"depthwise_separable": {"channels": 16}}, "flatten", {"dense": {"units": 12}}, "dense"]
    narrow = made(layers, width=0.25)
    assert (
        narrow[0].out_channels == 2
        and narrow[1].pointwise.out_channels == 4
        and (narrow[3].out_features, narrow[4].out_features) == (3, 10)
    )
    assert narrow(torch.randn(2, 1, 8, 8)).shape == (2, 10)
