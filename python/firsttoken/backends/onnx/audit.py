"""What a written .onnx file really holds: per layer the stored type and blocks, the operator that uses them, and what this machine computes it in.

A layer's node bears its name, and so does its weight. The scales themselves say how many columns of an INT4 row share one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Never

import numpy as np

from firsttoken.backends.onnx.cores import past_names
from firsttoken.backends.onnx.graph import DTYPES
from firsttoken.backends.onnx.kernel import computed_in
from firsttoken.backends.onnx.model_file import LoadedGraph, read_model
from firsttoken.bundle.manifest import AuditRow
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import Layer, layer_number, owners, plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.precisions import with_group
from firsttoken.safe_text import visible

if TYPE_CHECKING:
    from onnx import NodeProto

FLOATS = {DTYPES["float32"]: "fp32", DTYPES["float16"]: "fp16"}
CORES = ("GroupQueryAttention",)


def audit(path: Path, decoder: Decoder, precisions: Mapping[str, str]) -> list[AuditRow]:
    """Returns a row for every layer of the plan, in order; ``precisions`` as `Backend.audit` has them.

    Raises `FirstTokenError` for a file that is no such model, or lacks a layer.
    """
    graph, rows, owner = LoadedGraph(path, read_model(path)), [], owners(decoder)
    for layer in plan_layers(decoder):
        stored, computed = core(graph, owner[layer.name]) if layer.kind == "core" else matrix(graph, layer, precisions[layer.name])
        rows.append(AuditRow(layer=layer.name, asked=precisions[layer.name], stored=stored, computed=computed, delegated=False))
    return rows


def core(graph: LoadedGraph, owner: str) -> tuple[str, str]:
    """What the keys and values of a core are kept in. onnxruntime's CPU kernel adds up and exponentiates in FP32, whatever they are kept in."""
    inputs = {value.name: value.type.tensor_type.elem_type for value in graph.model.graph.input}
    kept = {FLOATS.get(inputs.get(name, 0), "other") for name in past_names(layer_number(owner))}
    users = [node for name in past_names(layer_number(owner)) for node in graph.users.get(name, []) if node.op_type in CORES]
    if len(kept) != 1 or not users or any(node.name != owner for node in users):
        refuse(graph, f"no attention core for {owner!r}")
    return kept.pop(), "fp32"


def matrix(graph: LoadedGraph, layer: Layer, asked: str) -> tuple[str, str]:
    """What a layer's weight is stored and multiplied in."""
    tensor = graph.constants.get(layer.name)
    users = [] if tensor is None else graph.users.get(layer.name, [])
    if tensor is None or len(users) != 1:
        refuse(graph, f"{'no weight' if tensor is None else 'not one operator'} for {layer.name!r}")
    if tensor.data_type in FLOATS:
        return FLOATS[tensor.data_type], floats(graph, layer, users[0])
    return integers(graph, layer, users[0], asked)


def floats(graph: LoadedGraph, layer: Layer, user: "NodeProto") -> str:
    """Both kinds of floats are computed in FP32."""
    if user.op_type == "Cast":
        [user] = graph.users.get(user.output[0], []) or [user]
    wanted = ("Gather",) if layer.kind == "embedding" else ("FusedMatMul",)
    shape = tuple(graph.constants[layer.name].dims)
    if user.op_type not in wanted or user.name != layer.name or shape != layer.shape:
        refuse(
            graph,
            f"{layer.name!r} is {list(shape)} in {user.op_type} {user.name!r}, and should be {list(layer.shape or ())} in {wanted[0]}",
        )
    return "fp32"


def integers(graph: LoadedGraph, layer: Layer, user: "NodeProto", asked: str) -> tuple[str, str]:
    """Of integers, what the operator takes them for, whether their scales fit, and what it computes in on this machine."""
    given, (rows, columns) = graph.attributes(user), layer.matrix[1]
    bits, block = int(given.get("bits", 4)), int(given.get("block_size", 0))
    wanted = "GatherBlockQuantized" if layer.kind == "embedding" else "MatMulNBits"
    scales, place = f"{layer.name}.scales", 2  # of both operators' inputs
    if user.op_type != wanted or user.name != layer.name or user.input[place] != scales or block < 1:
        refuse(
            graph, f"{layer.name!r} is in {user.op_type} {user.name!r} with scales {user.input[place]!r}; expected {wanted} with {scales!r}"
        )
    if wanted == "MatMulNBits" and (given.get("K"), given.get("N")) != (columns, rows):
        refuse(graph, f"{layer.name!r} is {given.get('N')} by {given.get('K')}; expected {rows} by {columns}")
    stored = {8: "int8", 4: "int4"}.get(bits, "other")
    if stored == "int4":
        stored = grouped(graph, scales, block, columns, asked)
    if wanted == "GatherBlockQuantized":
        return stored, "fp32"
    return stored, computed_in(bits, block, int(given.get("accuracy_level", 0)))


def grouped(graph: LoadedGraph, scales: str, block: int, columns: int, asked: str) -> str:
    """INT4 with its group: as asked where the scales of every such group are one, else the block's."""
    found = graph.values(scales)
    wanted = asked.partition("/")[2]
    each = found.shape[1] if wanted == "row" else int(wanted or block) // block
    whole = each > 0 and found.shape[1] % each == 0
    if whole and bool(np.all((split := found.reshape(len(found), -1, each)) == split[:, :, :1])):
        return with_group("int4", columns if wanted == "row" else each * block, columns)
    return with_group("int4", block, columns)


def refuse(graph: LoadedGraph, reason: str) -> Never:
    raise FirstTokenError(f"{graph.path}: {visible(reason, 300)}; the file is not what the plan says")
