"""The decoder with its weights already in the plan's precisions, read and quantized one layer at a time."""

import torch

from firsttoken.backends.executorch.load import load_convolutions, load_delta_rules, load_norms, load_routers
from firsttoken.backends.executorch.model import DecoderModule
from firsttoken.backends.executorch.quantize import read_embedding, read_linear
from firsttoken.backends.interface import LoweringJob
from firsttoken.decoder.walk import plan_layers
from firsttoken.progress import Report, silent


def build_module(job: LoweringJob, report: Report = silent) -> DecoderModule:
    """Returns the decoder ready for torch.export.

    It holds every weight as it will be stored (int4 as one byte per weight), never the model in float32.
    Raises `FirstTokenError` for a weight that float16 cannot hold.
    """
    with torch.device("meta"):
        module = DecoderModule(job.decoder, job.target.cache_length, job.precisions, job.target.draft_tokens)
    load_norms(job.checkpoint, job.decoder, module)
    load_convolutions(job.checkpoint, job.decoder, module)
    load_delta_rules(job.checkpoint, job.decoder, module)
    load_routers(job.checkpoint, job.decoder, module)
    layers = [layer for layer in plan_layers(job.decoder) if layer.weight]
    for done, layer in enumerate(layers):
        report("quantize", done, len(layers), "layers")
        precision = job.precisions[layer.name]
        if layer.kind == "embedding":
            made = read_embedding(job.checkpoint, layer, precision, job.group(layer))
        else:
            made = read_linear(job.checkpoint, layer, precision, job.group(layer), job.plan.apart(layer.name))
        module.set_submodule(layer.name, made)
    report("quantize", len(layers), len(layers), "layers")
    return module.eval()
