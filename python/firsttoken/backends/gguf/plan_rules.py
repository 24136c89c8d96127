"""What of a plan a GGUF file cannot hold, refused by the layer's name before any work."""

from collections.abc import Mapping

from firsttoken.backends.gguf.families import FAMILIES, Written
from firsttoken.backends.gguf.storage import BLOCK
from firsttoken.backends.gguf.tensors import file_name
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.precisions import PRECISIONS
from firsttoken.quant.plan import Plan
from firsttoken.targets.target import Target


def check_plan(plan: Plan, decoder: Decoder, precisions: Mapping[str, str], target: Target) -> None:
    """Raises `FirstTokenError`, naming the layer and the nearest that can be had."""
    start = f"plan {plan.name!r} on target {target.name!r}"
    if plan.smooth:
        raise FirstTokenError(
            f"{start}: smooth = true divides the embedding's columns, and a GGUF file has no place to multiply them again; leave it out"
        )
    for layer in plan_layers(decoder):
        if layer.shape is None or PRECISIONS[precisions[layer.name]].scales is None:
            continue
        columns, precision = layer.shape[1], precisions[layer.name]
        if columns % BLOCK:
            raise FirstTokenError(
                f"{start}: GGUF stores {precision} in blocks of {BLOCK} columns, and {layer.name!r} has {columns}; put a rule for it with fp16 before the others"
            )
        if precision == "int4" and (group := plan.group(layer.name, columns)) != BLOCK:
            shown = "row" if group == columns else group
            raise FirstTokenError(
                f"{start}: GGUF's Q4_0 has one scale for {BLOCK} columns, and {layer.name!r} would have one for {shown}; nearest: group = {BLOCK}"
            )
    cores = {precisions[layer.name]: layer.name for layer in plan_layers(decoder) if layer.kind == "core"}
    if len(cores) > 1:
        raise FirstTokenError(
            f"{start}: llama.cpp keeps one precision for the whole KV cache, and {' and '.join(f'{name!r} has {kind}' for kind, name in cores.items())}; "
            "give all of attention's cores the same"
        )
    if decoder.family in FAMILIES:
        _together(start, decoder, precisions, FAMILIES[decoder.family])


def _together(start: str, decoder: Decoder, precisions: Mapping[str, str], written: Written) -> None:
    """Layers that are one tensor have one precision."""
    first: dict[str, str] = {}
    for layer in plan_layers(decoder):
        if layer.kind == "core":
            continue
        tied = layer.name == "head" and decoder.tied_head and not written.own_head
        tensor = "token_embd" if tied else file_name(layer.name, written)
        other = first.setdefault(tensor, layer.name)
        if precisions[other] != precisions[layer.name]:
            raise FirstTokenError(
                f"{start}: {other!r} and {layer.name!r} are one tensor in llama.cpp's {written.architecture!r} ({tensor}), and would be "
                f"{precisions[other]} and {precisions[layer.name]}; give both the same"
            )
