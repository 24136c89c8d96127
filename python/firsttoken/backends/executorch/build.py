"""The decoder with its weights already in the plan's precisions, read and quantized one layer at a time."""

from collections.abc import Mapping

import torch

from firsttoken.backends.executorch.load import load_norms
from firsttoken.backends.executorch.model import DecoderModule
from firsttoken.backends.executorch.quantize import read_embedding, read_linear
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import plan_layers
from firsttoken.progress import Report, silent


def build_module(
    checkpoint: Checkpoint,
    decoder: Decoder,
    precisions: Mapping[str, str],
    cache_length: int,
    group_size: int,
    report: Report = silent,
) -> DecoderModule:
    """Returns the decoder ready for torch.export. ``group_size``: weights that share one int4 scale.

    It holds every weight as it will be stored (int4 as one byte per weight), never the model in float32.
    Raises `FirstTokenError` for a weight that float16 cannot hold.
    """
    with torch.device("meta"):
        module = DecoderModule(decoder, cache_length, precisions)
    load_norms(checkpoint, decoder, module)
    layers = [layer for layer in plan_layers(decoder) if layer.weight]
    for done, layer in enumerate(layers):
        report("quantize", done, len(layers), "layers")
        precision = precisions[layer.name]
        read = read_embedding if layer.kind == "embedding" else read_linear
        module.set_submodule(layer.name, read(checkpoint, layer, precision, group_size))
    report("quantize", len(layers), len(layers), "layers")
    return module.eval()
