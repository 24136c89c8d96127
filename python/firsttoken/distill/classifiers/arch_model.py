"""The network of an ``arch``: an `nn.Sequential` whose modules are numbered as its layers are, from 0."""

from collections import OrderedDict

from torch import Tensor, nn

from firsttoken.distill.classifiers import arch
from firsttoken.errors import FirstTokenError


class Residual(nn.Module):
    """ReLU of the input, 1x1 where channels or stride change it, plus two convolutions with batch norm (He et al., arXiv:1512.03385)."""

    def __init__(self, before: int, channels: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.norm1 = convolution(before, channels, kernel, stride, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = convolution(channels, channels, kernel, bias=False), nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if before != channels or stride != 1:
            self.shortcut = nn.Sequential(convolution(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, inputs: Tensor) -> Tensor:
        inside = self.norm2(self.conv2(nn.functional.relu(self.norm1(self.conv1(inputs)))))
        return nn.functional.relu(inside + self.shortcut(inputs))


def convolution(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = True) -> nn.Conv2d:
    """A convolution padded by half its kernel."""
    return nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=bias)


def depthwise_separable(before: int, channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Each channel by itself, then a 1x1 convolution, both with batch norm and ReLU (Howard et al., arXiv:1704.04861)."""
    return nn.Sequential(
        OrderedDict(
            depthwise=convolution(before, before, kernel, stride, groups=before, bias=False),
            norm1=nn.BatchNorm2d(before),
            relu1=nn.ReLU(),
            pointwise=convolution(before, channels, 1, bias=False),
            norm2=nn.BatchNorm2d(channels),
            relu2=nn.ReLU(),
        )
    )


def build(layers: arch.Arch, shape: tuple[int, ...], classes: int, width: float = 1.0) -> nn.Sequential:
    """Builds the network for inputs of ``shape`` (without the batch) with ``width`` times its channels and units.

    Weights follow torch's seed. Raises `FirstTokenError` naming the first layer that cannot be there.
    """
    made = nn.Sequential()
    for number, layer in enumerate(layers):
        module, shape = _layer(layer, f"arch, layer {number} ({layer.layer})", shape, classes, width)
        made.append(module)
    return made


def _layer(layer: arch.Layer, where: str, shape: tuple[int, ...], classes: int, width: float) -> tuple[nn.Module, tuple[int, ...]]:
    """Returns a layer's module and the shape of what it gives."""
    if isinstance(layer, arch.Relu):
        return nn.ReLU(), shape
    if isinstance(layer, arch.Dropout):
        return nn.Dropout(layer.rate), shape
    if isinstance(layer, arch.Flatten):
        size = 1
        for one in shape:
            size *= one
        return nn.Flatten(), (size,)
    if isinstance(layer, arch.Dense):
        if len(shape) != 1:
            raise FirstTokenError(
                f"{where}: is behind feature maps {list(shape)} [channels, height, width]; put global_average_pool or flatten before it"
            )
        units = classes if layer.units is None else scaled(layer.units, width)
        return nn.Linear(shape[0], units), (units,)
    if len(shape) != 3:
        raise FirstTokenError(f"{where}: takes pictures or feature maps [channels, height, width], and what is there is {list(shape)}")
    return _map_layer(layer, where, (shape[0], shape[1], shape[2]), width)


def _map_layer(layer: arch.Layer, where: str, shape: tuple[int, int, int], width: float) -> tuple[nn.Module, tuple[int, ...]]:
    """A layer of feature maps."""
    before, height, across = shape
    if isinstance(layer, arch.BatchNorm):
        return nn.BatchNorm2d(before), shape
    if isinstance(layer, arch.GlobalAveragePool):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (before,)
    if isinstance(layer, arch.MaxPool | arch.AveragePool):
        if min(height, across) < layer.size:
            raise FirstTokenError(
                f"{where}: feature maps are {height} by {across} there, less than its size {layer.size}; leave out a layer that shrinks them"
            )
        pool: nn.Module = nn.MaxPool2d(layer.size) if isinstance(layer, arch.MaxPool) else nn.AvgPool2d(layer.size)
        return pool, (before, height // layer.size, across // layer.size)
    assert isinstance(layer, arch.Convolution), "all other layers are handled above"
    channels = scaled(layer.channels, width)
    after = (channels, -(-height // layer.stride), -(-across // layer.stride))
    if isinstance(layer, arch.DepthwiseSeparable):
        return depthwise_separable(before, channels, layer.kernel, layer.stride), after
    if isinstance(layer, arch.Residual):
        return Residual(before, channels, layer.kernel, layer.stride), after
    return convolution(before, channels, layer.kernel, layer.stride), after


def scaled(size: int, width: float) -> int:
    """``width`` times the channels or units, one at least."""
    return max(1, round(size * width))
