"""The decoder with its weights already in the plan's precisions, read and quantized one layer at a time."""

from collections.abc import Mapping

import torch

from firsttoken.backends.executorch.quantize import read_embedding, read_linear
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.config import DecoderConfig
from firsttoken.decoder.families import plan_layers
from firsttoken.decoder.load import load_norms
from firsttoken.decoder.model import Decoder
from firsttoken.progress import Report, silent


def build_decoder(
    checkpoint: Checkpoint,
    config: DecoderConfig,
    precisions: Mapping[str, str],
    cache_length: int,
    group_size: int,
    report: Report = silent,
) -> Decoder:
    """Returns the decoder ready for torch.export. ``group_size``: weights that share one int4 scale.

    It holds every weight as it will be stored (int4 as one byte per weight), never the model in float32.
    Raises `FirstTokenError` for a weight that float16 cannot hold.
    """
    with torch.device("meta"):
        decoder = Decoder(config, cache_length, precisions)
    load_norms(checkpoint, config, decoder)
    layers = [layer for layer in plan_layers(config) if layer.weight]
    for done, layer in enumerate(layers):
        report("quantize", done, len(layers), "layers")
        precision = precisions[layer.name]
        read = read_embedding if layer.kind == "embedding" else read_linear
        decoder.set_submodule(layer.name, read(checkpoint, layer, precision, group_size))
    report("quantize", len(layers), len(layers), "layers")
    return decoder.eval()
