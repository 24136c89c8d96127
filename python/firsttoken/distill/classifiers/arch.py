"""``arch``: a network as a list of layers, each by its name with its arguments.

In YAML ``- conv: {channels: 32, kernel: 3}`` and, without arguments, ``- relu``; in TOML ``{conv = {channels = 32}}`` and ``"relu"``.
`arch_model` builds it.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Discriminator, Field

from firsttoken.distill.recipe import RecipePart
from firsttoken.errors import nearest


class Convolution(RecipePart):
    """What convolutions have in common. Pictures keep their size for a stride of 1: they are padded by half the kernel."""

    channels: int = Field(ge=1, le=1 << 16)
    kernel: Literal[1, 3, 5, 7, 9, 11] = 3
    stride: int = Field(default=1, ge=1, le=64)


class Conv(Convolution):
    """A convolution with a bias."""

    layer: Literal["conv"] = "conv"


class DepthwiseSeparable(Convolution):
    """Each channel by itself, then 1x1 over all, both with batch norm and ReLU (MobileNet; Howard et al., arXiv:1704.04861)."""

    layer: Literal["depthwise_separable"] = "depthwise_separable"


class Residual(Convolution):
    """Two convolutions with batch norm and a shortcut, 1x1 where the shape changes (ResNet's basic block; He et al., arXiv:1512.03385)."""

    layer: Literal["residual"] = "residual"


class BatchNorm(RecipePart):
    layer: Literal["batch_norm"] = "batch_norm"


class Relu(RecipePart):
    layer: Literal["relu"] = "relu"


class MaxPool(RecipePart):
    layer: Literal["max_pool"] = "max_pool"
    size: int = Field(default=2, ge=2, le=64)


class AveragePool(RecipePart):
    layer: Literal["average_pool"] = "average_pool"
    size: int = Field(default=2, ge=2, le=64)


class GlobalAveragePool(RecipePart):
    """The mean of each channel (Lin et al., arXiv:1312.4400): ``[batch, channels]``, whatever the size of the picture."""

    layer: Literal["global_average_pool"] = "global_average_pool"


class Flatten(RecipePart):
    layer: Literal["flatten"] = "flatten"


class Dense(RecipePart):
    """A linear layer; without ``units`` one unit a class, which the last layer has to be."""

    layer: Literal["dense"] = "dense"
    units: int | None = Field(default=None, ge=1, le=1 << 20)


class Dropout(RecipePart):
    layer: Literal["dropout"] = "dropout"
    rate: float = Field(default=0.5, ge=0, lt=1)


Layer = (
    Conv | DepthwiseSeparable | Residual | BatchNorm | Relu | MaxPool | AveragePool | GlobalAveragePool | Flatten | Dense | Dropout
)  # fmt: skip
LAYERS = tuple(kind.model_fields["layer"].default for kind in get_args(Layer))


def as_layer(value: object) -> object:
    """``relu`` or ``{conv: {channels: 8}}`` as a table whose field ``layer`` is the name. Raises `ValueError` for an unknown name."""
    arguments: object = None
    if isinstance(value, str):
        name: object = value
    elif isinstance(value, dict) and "layer" not in value:
        if len(value) != 1:
            raise ValueError(f"a layer is one name with its arguments, and here are {len(value)}: {', '.join(map(str, value))[:80]}")
        [(name, arguments)] = value.items()
    else:
        return value
    if name not in LAYERS:
        raise ValueError(f"layer {str(name)[:40]!r} is unknown{nearest(str(name), LAYERS)}; expected one of {', '.join(LAYERS)}")
    if not isinstance(arguments, dict | None):
        raise ValueError(f"layer {name}: its arguments are {str(arguments)[:40]!r}; expected a table, such as {name}: {{channels: 8}}")
    return {"layer": name, **(arguments or {})}


def check_arch(layers: tuple[Any, ...]) -> tuple[Any, ...]:
    """Raises `ValueError` unless the last layer, and no other, gives the classes."""
    heads = [number for number, each in enumerate(layers) if isinstance(each, Dense) and each.units is None]
    if heads != [len(layers) - 1]:
        raise ValueError("the last layer has to be dense without units, which gives the classes, and no other is")
    return layers


Arch = tuple[Annotated[Annotated[Layer, Discriminator("layer")], BeforeValidator(as_layer)], ...]
