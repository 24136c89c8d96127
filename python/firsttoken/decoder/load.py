"""Weights from a checkpoint into the decoder's modules, one tensor at a time."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.block import Block
from firsttoken.decoder.config import DecoderConfig, Layer
from firsttoken.decoder.families import norm_tensors, plan_layers
from firsttoken.decoder.model import Decoder
from firsttoken.decoder.norm import RmsNorm

BLOCK_VALUES = 1 << 20  # weights of the embedding or head held in float32 at once


def tensor(values: np.ndarray) -> Tensor:
    """The array as a tensor that owns its memory (what `Checkpoint` returns may be read-only)."""
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def row_blocks(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yields ``(start, stop)`` of blocks of rows that together make a matrix of ``shape``."""
    step = max(1, BLOCK_VALUES // shape[1])
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


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


def embedding_rows(checkpoint: Checkpoint, tokens: np.ndarray) -> Tensor:
    """Embeddings of ``tokens``, float32 ``[1, S, hidden_size]``, read one row at a time."""
    name = "model.embed_tokens.weight"
    known = {int(token): checkpoint.rows(name, int(token), int(token) + 1)[0] for token in np.unique(tokens)}
    return torch.from_numpy(np.stack([known[int(token)] for token in tokens]))[None]


def head_logits(checkpoint: Checkpoint, config: DecoderConfig, hidden: Tensor) -> Tensor:
    """Final norm and head over ``hidden`` ``[1, S, hidden_size]``: logits float32 ``[S, vocab_size]``.

    The head is read in blocks of rows, so that it is never held whole; the logits are (4 bytes * S * vocab_size).
    """
    norm = RmsNorm(config.hidden_size, config.norm_epsilon)
    fill(norm, "weight", tensor(checkpoint.vector("model.norm.weight")))
    head = plan_layers(config)[-1]
    hidden = norm(hidden.reshape(-1, config.hidden_size))
    logits = torch.empty(len(hidden), config.vocab_size)
    for start, stop in row_blocks(head.shape):
        torch.matmul(hidden, tensor(checkpoint.rows(head.weight, start, stop)).T, out=logits[:, start:stop])
    return logits
