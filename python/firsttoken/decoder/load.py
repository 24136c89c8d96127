"""Weights from a checkpoint into the decoder's modules, one tensor at a time."""

import numpy as np
import torch
from torch import Tensor, nn

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.block import Block
from firsttoken.decoder.config import DecoderConfig, Layer
from firsttoken.decoder.families import norm_tensors, plan_layers
from firsttoken.decoder.model import Decoder


def tensor(values: np.ndarray) -> Tensor:
    """The array as a tensor that owns its memory (what `Checkpoint` returns may be read-only)."""
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def fill(module: nn.Module, parameter: str, values: Tensor):
    """Replaces a module's parameter (which may be on the meta device) by ``values``."""
    setattr(module, parameter, nn.Parameter(values, requires_grad=False))


def load_norms(checkpoint: Checkpoint, config: DecoderConfig, decoder: Decoder):
    """Fills every norm of the decoder, float32."""
    for name, source, _ in norm_tensors(config):
        fill(decoder.get_submodule(name), "weight", tensor(checkpoint.vector(source)))


def load_layer(checkpoint: Checkpoint, layer: Layer, module: nn.Module):
    """Fills one linear layer or embedding with its weight and bias as they are, in float32."""
    fill(module, "weight", tensor(checkpoint.matrix(layer.weight)))
    if layer.bias:
        fill(module, "bias", tensor(checkpoint.vector(layer.bias)))


def load_block(checkpoint: Checkpoint, config: DecoderConfig, index: int, block: Block) -> Block:
    """Fills ``block`` with the weights of layer ``index`` in float32 and returns it; the same block can be filled again."""
    prefix = f"layers.{index}."
    for layer in plan_layers(config):
        if layer.name.startswith(prefix) and layer.weight:
            load_layer(checkpoint, layer, block.get_submodule(layer.name.removeprefix(prefix)))
    for name, source, _ in norm_tensors(config):
        if name.startswith(prefix):
            fill(block.get_submodule(name.removeprefix(prefix)), "weight", tensor(checkpoint.vector(source)))
    return block


def load_decoder(checkpoint: Checkpoint, config: DecoderConfig, cache_length: int) -> Decoder:
    """The whole decoder in float32: a small model's reference. It needs four bytes per weight."""
    with torch.device("meta"):
        decoder = Decoder(config, cache_length)
    load_norms(checkpoint, config, decoder)
    for layer in plan_layers(config):
        if layer.name == "head" and config.tied_head:
            decoder.head.weight = decoder.embedding.weight
        elif layer.weight:
            load_layer(checkpoint, layer, decoder.get_submodule(layer.name))
    return decoder.eval()
