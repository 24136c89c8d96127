"""Weights from a checkpoint into the decoder's modules, one tensor at a time."""

import numpy as np
import torch
from torch import Tensor, nn

from firsttoken.backends.executorch.streams import CoefficientsModule
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import coefficients, convolutions, delta_rules, factors, norms, routers


def tensor(values: np.ndarray) -> Tensor:
    """The array as a tensor that owns its memory (what `Checkpoint` returns may be read-only)."""
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def fill(module: nn.Module, parameter: str, values: Tensor) -> None:
    """Replaces a module's parameter (which may be on the meta device) by ``values``."""
    setattr(module, parameter, nn.Parameter(values, requires_grad=False))


def load_norms(checkpoint: Checkpoint, decoder: Decoder, module: nn.Module) -> None:
    """Fills every norm, factor and small matrix of coefficients, float32."""
    for name, small in coefficients(decoder):
        own = module.get_submodule(name)
        assert isinstance(own, CoefficientsModule), f"{name} is made by model.DecoderModule"
        own.fill(tensor(checkpoint.matrix(small.weight)))
    for name, factor in factors(decoder):
        fill(module.get_submodule(name), "weight", tensor(checkpoint.vector(factor.weight)))
    for name, norm in norms(decoder):
        for parameter, source in (("weight", norm.weight), ("bias", norm.bias)):
            if source is not None:
                fill(module.get_submodule(name), parameter, tensor(checkpoint.vector(source)))


def load_delta_rules(checkpoint: Checkpoint, decoder: Decoder, module: nn.Module) -> None:
    """Fills every delta rule's rate of forgetting, float32."""
    for name, rule in delta_rules(decoder):
        fill(module.get_submodule(name), "rate", -tensor(checkpoint.vector(rule.decay)).exp())


def load_convolutions(checkpoint: Checkpoint, decoder: Decoder, module: nn.Module) -> None:
    """Fills every convolution's kernel, float32."""
    for name, kernel in convolutions(decoder):
        weight, own = tensor(checkpoint.matrix(kernel.weight)), module.get_submodule(name)
        for place in range(kernel.length):
            fill(own.get_submodule("weights"), str(place), weight[:, place].contiguous())
        if kernel.bias is not None:
            fill(own, "bias", tensor(checkpoint.vector(kernel.bias)))


def load_routers(checkpoint: Checkpoint, decoder: Decoder, module: nn.Module) -> None:
    """Fills every choice of experts, float32."""
    for name, router in routers(decoder):
        own = module.get_submodule(name)
        fill(own, "matrix", tensor(checkpoint.matrix(router.weight)))
        if router.bias is not None:
            fill(own, "bias", tensor(checkpoint.vector(router.bias)))
