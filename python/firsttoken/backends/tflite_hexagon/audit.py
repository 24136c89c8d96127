"""What of every layer went into the NPU: dtypes from the graphs that were compiled, offload from the compiled file.

Hexagon's float kernels compute in FP16 whatever the graph says, and unpack int8 weights to FP16 as they go. The numbers
of the proof are what shows that the compiled file holds these graphs.
"""

from pathlib import Path

from firsttoken.backends.tflite.audit import LoadedGraph, one_pair, read_header
from firsttoken.bundle.manifest import AuditRow, NpuFacts
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import plan_layers

TABLE_TYPES = {"float32": "fp32", "float16": "fp16", "int8": "int8"}


def audit(source: Path, decoder: Decoder, precisions: dict[str, str], npu: NpuFacts) -> list[AuditRow]:
    """Returns a row for every layer of the plan, in order. The embedding is looked up by the host. Raises `FirstTokenError` for a missing layer."""
    model, _ = read_header(source)
    graphs = [LoadedGraph(model, signature.subgraphIndex, set()) for signature in model.signatureDefs]
    outside = [line.split(":")[0].split(" ", 1)[1] for graph in npu.graphs for line in graph.left]
    rows = []
    for layer in plan_layers(decoder):
        scales = one_pair(source, layer, graphs)
        if layer.kind == "embedding":
            stored, computed, taken = TABLE_TYPES[npu.embedding.dtype], "fp32", False
        else:
            seen = [
                (new_rows(graph, layer.name), "") if layer.kind == "core" else graph.weight(layer.name, layer.kind)[:2] for graph in graphs
            ]
            stored = "/".join(sorted({held for held, _ in seen}))
            computed = "/".join(sorted({between for _, between in seen})) if scales else "fp16"
            taken = not any(layer.name == scope or layer.name.startswith(f"{scope}.") for scope in outside)
        rows.append(
            AuditRow(layer=layer.name, asked=precisions[layer.name], stored=stored, computed=computed, delegated=taken, scales=scales)
        )
    return rows


def new_rows(graph: LoadedGraph, name: str) -> str:
    """The precision of the cache rows that a graph returns: that of the numbers, which it hands to the host as float32."""
    stored, _, _ = graph.core(name, name)
    scope = name.removesuffix(".core")
    casts = [
        graph.type_of(int(operator.inputs[0]))
        for n, operator in enumerate(graph.graph.operators)
        if n in graph.scopes[scope] and graph.kind(n) == "CAST" and set(map(int, operator.outputs)) & set(map(int, graph.graph.outputs))
    ]
    return "/".join(sorted(set(casts))) if casts else stored
