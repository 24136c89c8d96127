"""What a written .tflite of a module holds, layer by layer: stored and computed from the file, delegation from XNNPACK itself."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from firsttoken.backends.tflite.audit import executed_outside_delegate, read_header
from firsttoken.backends.tflite.modules.graph_file import GraphFile
from firsttoken.backends.tflite.modules.matching import Match
from firsttoken.backends.tflite.modules.written import FLOATS, Written, WrittenOperators
from firsttoken.bundle.manifest import AuditRow
from firsttoken.errors import FirstTokenError
from firsttoken.modules.layers import ModuleLayer

CORE_OPERATORS = ("BATCH_MATMUL", "SOFTMAX")


def layer_facts(file: GraphFile, layers: Sequence[ModuleLayer], found: Sequence[Match], names: Sequence[str]) -> dict[str, Any]:
    """What `audit` needs to find each layer again: its operators by signature and name, and digests of what they hold. A table that the converter folded into
    constants, because it is looked up at fixed places, has none."""
    graphs = {one.subgraphIndex: key for key, one in file.signatures().items()}
    facts: dict[str, Any] = {layer.name: {"kind": layer.kind, "operators": []} for layer in layers}
    written = WrittenOperators(file)
    for one, name in zip(found, names, strict=True):
        if one.layer:
            held = written.read(one.weighted.operator.graph, name)
            facts[one.layer]["operators"].append({"graph": graphs[one.weighted.operator.graph], "output": name, **held.digest()})
    return facts


def audit_module(path: Path, facts: Mapping[str, Any], layers: Sequence[ModuleLayer], precisions: Mapping[str, str]) -> list[AuditRow]:
    """Returns a row for every layer, in order. Raises `FirstTokenError` for a file that lacks a layer, or holds other weights, scales or a bias than were written."""
    file = GraphFile.read(path)
    model, header_bytes = read_header(path)
    outside = {
        signature.signatureKey.decode(): executed_outside_delegate(path, header_bytes, model, signature)
        for signature in model.signatureDefs
    }
    written = WrittenOperators(file)
    return [_row(written, path, facts, layer, precisions[layer.name], outside) for layer in layers]


def _row(
    operators_of: WrittenOperators, path: Path, facts: Mapping[str, Any], layer: ModuleLayer, asked: str, outside: Mapping[str, set[int]]
) -> AuditRow:
    file = operators_of.file
    if layer.name not in facts:
        raise FirstTokenError(f"{path}: what was written of {layer.name} is not known; export it again")
    if layer.kind == "core":
        return _core(file, layer, asked, outside)
    operators = facts[layer.name]["operators"]
    if not operators:
        if layer.kind != "embedding":
            raise FirstTokenError(f"{path}: no operator computes {layer.name}; export it again")
        return AuditRow(layer=layer.name, asked=asked, stored="fp32", computed="fp32", delegated=True)
    graphs = {key: one.subgraphIndex for key, one in file.signatures().items()}
    held = []
    for one in operators:
        if one["graph"] not in graphs:
            raise FirstTokenError(f"{path}: has no signature {one['graph']!r}; export it again")
        written = operators_of.read(graphs[one["graph"]], one["output"])
        _check_digest(path, layer.name, written, one)
        held.append((written, one["graph"]))
    return AuditRow(
        layer=layer.name,
        asked=asked,
        stored=_only(path, layer.name, "stored", [named(one, asked) for one, _ in held]),
        computed=_only(path, layer.name, "computed", [one.computed for one, _ in held]),
        delegated=all(not set(one.operators) & outside[graph] for one, graph in held),
        scales=list(held[0][0].scales),
    )


def named(held: Written, asked: str) -> str:
    """How a layer is stored, with the groups that share scales where there can be some."""
    return held.stored if held.precision(asked) == "int4" else held.precision(asked)


def _check_digest(path: Path, layer: str, held: Written, fact: Mapping[str, str]) -> None:
    for what, got in held.digest().items():
        if got != fact[what]:
            raise FirstTokenError(f"{path}: the {what} of {layer} in {fact['output']!r} are not those that were written; export it again")


def _only(path: Path, layer: str, what: str, values: Sequence[str]) -> str:
    if len(set(values)) != 1:
        raise FirstTokenError(f"{path}: {layer} is {what} in {' and '.join(sorted(set(values)))}; expected one precision: export it again")
    return values[0]


def _core(file: GraphFile, layer: ModuleLayer, asked: str, outside: Mapping[str, set[int]]) -> AuditRow:
    """Of attention, whose products of activations are told from each other by nothing: all of the file have to be alike."""
    types: dict[str, list[bool]] = defaultdict(list)
    for key, signature in file.signatures().items():
        graph = signature.subgraphIndex
        for operator in file.operators(graph):
            if operator.kind in CORE_OPERATORS and all(file.raw(graph, index) is None for index in operator.inputs):
                kind = FLOATS.get(file.tensor(graph, operator.outputs[0]).type, "integers")
                types[kind].append(operator.index not in outside[key])
    if not types:
        raise FirstTokenError(f"the file has no products of activations for {layer.name}; it is not what the plan says")
    kind = "/".join(sorted(types))
    return AuditRow(
        layer=layer.name,
        asked=asked,
        stored=kind,
        computed=kind,
        delegated=all(taken for all_taken in types.values() for taken in all_taken),
    )
