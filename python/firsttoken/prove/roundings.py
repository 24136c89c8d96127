"""Whether a file that was found may be held against a plan computed on the host: only where it stores what the plan asks, rounded as a backend of ours rounds."""

import math
from collections import Counter
from collections.abc import Mapping

from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import plan_layers
from firsttoken.foreign.structure import ON_INTEGERS, UNREAD, Structure
from firsttoken.quant.plan import Plan

NEAREST = {"fp32": "fp32", "fp16": "fp16", "int8": "int8", "int4": "int4"}
SCALED = ("int8", "int4")


def nearest_plan(found: Structure) -> str:
    """The built-in plan that stores its coarsest weights as the file does; its bounds are for a file without a plan of its own."""
    coarsest = NEAREST.get(found.coarsest, "int4")
    return "fp16" if coarsest == "fp32" and found.cache == "fp16" else coarsest


def misfit(found: Structure, decoder: Decoder, plan: Plan, precisions: Mapping[str, str]) -> str:
    """Why the file cannot be held against the plan computed on the host; empty where it can."""
    if plan.calibrated:
        return "the plan's integers are chosen on a calibration text, which nothing says of this file"
    stored = Counter((math.prod(matrix.shape), matrix.stored) for matrix in found.matrices)
    least: Counter[tuple[int, str]] = Counter()
    most: Counter[tuple[int, str]] = Counter()
    seen = set()
    for layer in plan_layers(decoder):
        if layer.shape is None:
            continue
        key = math.prod(layer.shape), precisions[layer.name]
        most[key] += 1
        least[key] += (layer.weight, key) not in seen  # a tied head may be stored once or twice
        seen.add((layer.weight, key))
    sizes = {size for size, _ in most}  # what has another size is no layer's weight: a table of angles
    for size, kind in sorted({*least, *(key for key in stored if key[0] in sizes)}):
        if not least[size, kind] <= stored[size, kind] <= most[size, kind]:
            return f"of weights with {size} values the plan asks {least[size, kind]} in {kind}, it stores {stored[size, kind]}"
    scales = scales_of(decoder, plan, precisions)
    for matrix in found.matrices:
        if matrix.stored not in SCALED:
            continue
        asked = scales.get((math.prod(matrix.shape), matrix.stored), {"row"})
        if matrix.scales == UNREAD:
            return f"the scales of its {matrix.stored} weights cannot be read, and ExecuTorch's exporters choose them in several ways (export_llm by HQQ)"
        if matrix.scales not in asked or matrix.shifted:
            how = "zero points" if matrix.shifted else f"one scale a {matrix.scales or 'file'}"
            return f"weights in {matrix.stored} are rounded with {how}; the plan's with one scale a {' or a '.join(sorted(asked))} and no zero point"
        if any(user.endswith(ON_INTEGERS) for user in matrix.users):
            return f"weights in {matrix.stored} meet activations with scales that were calibrated; ours round each token by its own"
        if "DEQUANTIZE" in matrix.users:
            return f"weights in {matrix.stored} are computed in floating point; ours round the activations too"
    cores = {precisions[layer.name] for layer in plan_layers(decoder) if layer.kind == "core"}
    if found.cache != "unknown" and cores != {found.cache}:
        return f"the plan keeps keys and values in {' and '.join(sorted(cores))}, it in {found.cache}"
    return ""


def scales_of(decoder: Decoder, plan: Plan, precisions: Mapping[str, str]) -> dict[tuple[int, str], set[str]]:
    """What the plan gives one scale, "row" or "group of 32", in layers of a size and a precision."""
    found: dict[tuple[int, str], set[str]] = {}
    for layer in plan_layers(decoder):
        if layer.shape is not None:
            columns, group = layer.shape[1], plan.group(layer.name, layer.shape[1])
            found.setdefault((math.prod(layer.shape), precisions[layer.name]), set()).add(
                "row" if group == columns else f"group of {group}"
            )
    return found
