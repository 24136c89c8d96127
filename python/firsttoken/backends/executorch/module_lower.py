"""Lowering a module to .pte: rewrite, quantize, trace again, hand to XNNPACK, write one file, read it back."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeCompileConfig, EdgeProgramManager, to_edge_transform_and_lower
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule

from firsttoken.backends.executorch.lower import free_memory, quiet_libraries, write
from firsttoken.backends.executorch.module_audit import audit_module, missed
from firsttoken.backends.executorch.module_graph import again, free_dimensions, inputs_of, open_graph, tidy
from firsttoken.backends.executorch.module_quantize import to_precision
from firsttoken.backends.executorch.module_rewrite import check_same, rewrite
from firsttoken.backends.executorch.module_static import round_activations
from firsttoken.backends.executorch.partition import DecoderPartitioner
from firsttoken.backends.module_backend import ArtifactTensor, LoweredModule, ModuleJob, ModuleMethod
from firsttoken.errors import FirstTokenError
from firsttoken.modules.module import Module, ModuleInput, ModuleOutput
from firsttoken.progress import Report, silent

METHOD = "forward"
MOST = {"batch": 16}
"""The largest size of a dimension where nothing says how large it may be; the runner takes more of a batch in pieces."""
MOST_LENGTH = 512
LONG_LSTM = 100
CALIBRATION_BATCH = 8
DTYPES = {torch.float32: "float32", torch.float16: "float16", torch.int32: "int32", torch.int64: "int64", torch.bool: "bool"}


def lower_module(job: ModuleJob, path: Path, report: Report = silent) -> LoweredModule:
    """Writes ``path``, which is incomplete where this raises: `FirstTokenError` for a layer that did not become what was asked, `OSError` for a full disk."""
    with torch.no_grad(), quiet_libraries():
        module = job.module
        most = largest_sizes(module)
        graph = open_graph(module.program)
        rewrite(graph)
        graph.recompile()
        check_same(graph, module.program.module()(*module.example), module.example)
        keys, roundings = quantize(graph, job, most, report)
        report("trace", 0, 1, "graph")
        dimensions = free_dimensions(module.program, most)
        program = again(graph, fitting(module, most), dimensions)
        del graph
        report("trace", 1, 1, "graph")
        report("delegate", 0, 1, "graph")
        edge = delegate(program)
        del program
        free_memory()
        report("delegate", 1, 1, "graph")
        notes = notes_of(edge, job)
        write(edge, path, report)
    compute = {layer.name for layer in job.layers if layer.kind not in ("embedding", "other")}
    lowered = LoweredModule(
        (described(module, most),), {name: {"keys": found, **roundings.get(name, {})} for name, found in keys.items()}, notes
    )
    rows = audit_module(path, lowered, job.layers, job.precisions)
    if lines := missed(rows, {layer.name: layer.kind for layer in job.layers}):
        raise FirstTokenError(f"the written file is not what the plan asks: {'; '.join(lines[:4])}{' …' if len(lines) > 4 else ''}")
    slow = [row.layer for row in rows if not row.delegated and row.layer in compute]
    return replace(lowered, notes=(*notes, *([f"outside XNNPACK, many times slower: {', '.join(slow)}"] if slow else [])))


def quantize(
    graph: GraphModule, job: ModuleJob, most: Mapping[int, Mapping[int, int]], report: Report
) -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
    """Every layer into its precision; returns the names of its constants in the file, and how the activations of static ones are rounded."""
    owner = {name: layer for layer in job.layers for name in layer.nodes}
    nodes = {node: owner[node.name] for node in graph.graph.nodes if node.op == "call_function" and node.name in owner}
    lost = set(owner) - {node.name for node in nodes}
    if lost:
        raise FirstTokenError(f"layer {owner[min(lost)].name!r}: lost when the graph was opened; is torch another version than 2.13?")
    static = {node: layer.name for node, layer in nodes.items() if job.precisions[layer.name] == "int8-static"}
    samples = [job.samples[own.name] for own in job.module.inputs] if static and job.samples else []
    rounded = round_activations(graph, static, job.range_methods, samples, batch_of(job.module, most))
    keys: dict[str, list[str]] = {layer.name: [] for layer in job.layers}
    for done, (node, layer) in enumerate(nodes.items()):
        report("quantize", done, len(nodes), "layers")
        keys[layer.name] += [one for one in to_precision(graph, node, layer, job.precisions[layer.name]) if one not in keys[layer.name]]
    report("quantize", len(nodes), len(nodes), "layers")
    tidy(graph)
    both = {
        name: {
            side: {"scale": float(np.float32(one.scale)), "zero_point": one.zero_point}
            for side, one in zip(("input", "output"), pair, strict=True)
        }
        for name, pair in rounded.items()
    }
    return keys, both


def largest_sizes(module: Module) -> dict[int, dict[int, int]]:
    """The largest size of each dimension with a name: what the module's lengths say, or `MOST`."""
    return {
        number: {
            place: max(module.lengths.get(size) or (MOST.get(size, MOST_LENGTH),))
            for place, size in enumerate(given.shape)
            if isinstance(size, str)
        }
        for number, given in enumerate(module.inputs)
    }


def batch_of(module: Module, most: Mapping[int, Mapping[int, int]]) -> int:
    """How many samples run at once: the program's own batch, where it is fixed."""
    first = inputs_of(module.program)[0].meta["val"].shape[0]
    return first if isinstance(first, int) else CALIBRATION_BATCH


def fitting(module: Module, most: Mapping[int, Mapping[int, int]]) -> tuple[Tensor, ...]:
    """The example with no dimension larger than it may be."""
    found = []
    for number, values in enumerate(module.example):
        for place, size in most[number].items():
            values = values.narrow(place, 0, min(size, values.shape[place]))
        found.append(values.contiguous())
    return tuple(found)


def delegate(program: ExportedProgram) -> EdgeProgramManager:
    """Hands the program to XNNPACK. Raises `FirstTokenError` for what ExecuTorch refuses."""
    config = EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True)
    try:
        return to_edge_transform_and_lower(program, partitioner=[partitioner_of(program)], compile_config=config)
    except Exception as error:  # ExecuTorch's passes raise whatever they meet
        raise FirstTokenError(f"lowering: ExecuTorch or XNNPACK refused the module ({' '.join(str(error).split())[:300]})") from error


def partitioner_of(program: ExportedProgram) -> XnnpackPartitioner:
    """The one that decomposes the graph once, unless an operator needs to be asked whether XNNPACK takes it as it is."""
    stock = XnnpackPartitioner()
    asked = set(stock.ops_to_not_decompose(program)[0]) - {torch.ops.aten.linear.default}
    return stock if any(node.target in asked for node in program.graph.nodes) else DecoderPartitioner()


def notes_of(edge: EdgeProgramManager, job: ModuleJob) -> tuple[str, ...]:
    """In how many pieces XNNPACK has the module, and what runs outside."""
    calls = [node for node in edge.exported_program().graph.nodes if node.op == "call_function"]
    names = [str(getattr(node.target, "__name__", node.target)) for node in calls]
    parts = sum("executorch_call_delegate" in name for name in names)
    outside = Counter(name for name in names if not any(own in name for own in ("executorch_call_delegate", "getitem", "sym_size")))
    said = ", ".join(f"{name} ({count})" for name, count in outside.most_common(6))
    notes = [f"XNNPACK computes it in {parts} parts; outside run {outside.total()} operators{f': {said}' if said else ''}"]
    return tuple(notes)


def described(module: Module, most: Mapping[int, Mapping[int, int]]) -> ModuleMethod:
    """The one method as the manifest has it. ExecuTorch has no names: inputs and outputs go by their order."""
    values = {node.name: node.meta["val"] for node in module.program.graph.nodes if "val" in node.meta}
    outputs = [values[name] for name in module.program.graph_signature.user_outputs]
    ones = {given.shape[place] for number, given in enumerate(module.inputs) for place, size in most[number].items() if size == 1}

    def shape(own: ModuleInput | ModuleOutput) -> tuple[int | str, ...]:
        return tuple(1 if size in ones else size for size in own.shape)  # `free_dimensions` fixed these

    inputs = tuple(ArtifactTensor(own.name, own.name, own.dtype, shape(own)) for own in module.inputs)
    return ModuleMethod(
        METHOD,
        inputs,
        tuple(
            ArtifactTensor(own.name, own.name, DTYPES[value.dtype], shape(own)) for own, value in zip(module.outputs, outputs, strict=True)
        ),
    )
