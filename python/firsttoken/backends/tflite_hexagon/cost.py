"""What compiling and emulating cost: minutes and memory, estimated before they start.

Measured with LiteRT 2.3 and QNN 2.50 on two x86 cores, plan fp16-attention, from the demo checkpoint and generated ones
of the Qwen2.5-0.5B shape (docs/hexagon.md has the table). The estimates err upwards.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from firsttoken.backends.stored import stored_bytes
from firsttoken.backends.tflite_hexagon.ops import graph_names
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import plan_layers
from firsttoken.targets.target import Target

# Compiling: per graph, and per byte of stored weights in each graph; an int4 weight takes longer than a byte. All graphs are in memory at once.
BASE_BYTES, COPIES_PER_GRAPH = 400 << 20, 5.0
BASE_SECONDS, SECONDS_PER_GRAPH, SECONDS_PER_BYTE, SECONDS_PER_INT4 = 1.0, 0.5, 0.14e-6, 0.18e-6
# Emulating: per call, per weight in each call, per weight and row of tokens, and per attention score and head dimension.
EMULATED_CALL, EMULATED_WEIGHT, EMULATED_ROW, EMULATED_SCORE = 0.05, 1.3e-7, 3.5e-9, 4e-9
EMULATED_BASE, EMULATED_COPIES = 800 << 20, 7.0


@dataclass(frozen=True)
class Cost:
    """Wall seconds on two cores, peak resident bytes, and bytes on disk while at work."""

    seconds: float
    memory: int
    disk: int


def npu_weight_bytes(decoder: Decoder, precisions: Mapping[str, str], target: Target) -> int:
    """Bytes of the weights in the compiled artifact: everything but the embedding, which stays on the host."""
    layers = [layer for layer in plan_layers(decoder) if layer.kind != "embedding"]
    return stored_bytes(layers, precisions, shares_tied=target.runtime == "tflite")[0]


def compile_cost(decoder: Decoder, precisions: Mapping[str, str], target: Target, graphs: int | None = None) -> Cost:
    """Estimates compiling ``graphs`` graphs (default: all of the target's) in one go."""
    weights = npu_weight_bytes(decoder, precisions, target)
    if target.npu_options.compile == "device" and graphs is None:
        return Cost(0.0, 0, weights)
    graphs = graphs or len(graph_names(target.npu_options.prefill_lengths))
    int4 = sum(math.prod(layer.shape) for layer in plan_layers(decoder) if layer.shape and precisions[layer.name] == "int4")
    written = weights if target.npu_options.share_weights else weights * graphs
    return Cost(
        seconds=BASE_SECONDS + graphs * (SECONDS_PER_GRAPH + SECONDS_PER_BYTE * weights + SECONDS_PER_INT4 * int4),
        memory=BASE_BYTES + int(COPIES_PER_GRAPH * graphs * weights),
        disk=weights + written,
    )


def emulation_cost(decoder: Decoder, precisions: Mapping[str, str], target: Target, steps: list[tuple[str, int, int]]) -> Cost:
    """Estimates running ``steps`` (kind, start, stop; in tokens) on the HTP backend for x86."""
    from firsttoken.decoder.walk import parameter_count

    lengths, cache = target.npu_options.prefill_lengths, target.cache_length
    weights = parameter_count(decoder)
    seconds = 0.0
    for kind, start, stop in steps:
        count = stop - start
        while count > 0:
            fitting = [n for n in lengths if n >= min(count, lengths[-1])]
            tokens = {"decode": 1, "extend": lengths[-1], "first": fitting[0]}[kind]
            over = tokens if kind == "first" else tokens + cache
            attended = sum(block.attention.core.query_size for block in decoder.layers if block.attention) * tokens * over
            seconds += EMULATED_CALL + weights * (EMULATED_WEIGHT + EMULATED_ROW * tokens) + EMULATED_SCORE * attended
            count, kind = count - tokens, "extend" if kind == "first" else kind
    return Cost(seconds, EMULATED_BASE + int(EMULATED_COPIES * npu_weight_bytes(decoder, precisions, target)), 0)
