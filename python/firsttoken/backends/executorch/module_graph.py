"""A module's program as a graph that can be changed and exported again: its weights by name, nodes replaced by modules of ours, its free dimensions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule, Node

from firsttoken.errors import FirstTokenError


def open_graph(program: ExportedProgram) -> GraphModule:
    """The program with its weights as attributes under their own names. What the program asserts of its inputs is left out: the host checks them."""
    graph = program.module(check_guards=False)
    assert isinstance(graph, GraphModule), "torch.export gives a GraphModule"
    return graph


def operator(node: Node) -> str:
    """As in "aten.linear" of ``aten.linear.default``; empty for a node that calls no operator."""
    return str(node.target).rpartition(".")[0] if node.op == "call_function" else ""


def constant(graph: GraphModule, argument: object) -> Tensor | None:
    """The weight or buffer that a node's argument is; None for what is computed, or no tensor."""
    if not isinstance(argument, Node) or argument.op != "get_attr":
        return None
    owner, _, name = str(argument.target).rpartition(".")
    found = getattr(graph.get_submodule(owner), name)
    return found.detach() if isinstance(found, Tensor) else None


def given(node: Node, place: int, name: str, default: Any = None) -> Any:
    """An argument of a node by its place or its name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def shape_of(node: Node) -> tuple[int | torch.SymInt, ...]:
    return tuple(node.meta["val"].shape)


def put(graph: GraphModule, node: Node, made: nn.Module, inputs: Sequence[Any], name: str) -> Node:
    """Replaces a node by a call of ``made``, under a name that no weight of the program has. Returns the new node."""
    target = "made_" + name.replace(".", "_")
    while hasattr(graph, target):
        target += "_"
    graph.add_submodule(target, made)
    with graph.graph.inserting_before(node):
        new = graph.graph.call_module(target, tuple(inputs))
    new.meta = {key: node.meta[key] for key in ("val",) if key in node.meta}
    node.replace_all_uses_with(new)
    graph.graph.erase_node(node)
    return new


def tidy(graph: GraphModule) -> None:
    """Drops what nothing uses any more, weights too, so that it is not exported again."""
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    used = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    made = tuple(f"{node.target}." for node in graph.graph.nodes if node.op == "call_module")
    for name in [name for name, _ in (*graph.named_parameters(), *graph.named_buffers())]:
        if name not in used and not name.startswith(made):
            owner, _, last = name.rpartition(".")
            delattr(graph.get_submodule(owner), last)
    graph.recompile()


def free_dimensions(program: ExportedProgram, most: Mapping[int, Mapping[int, int]]) -> tuple[dict[int, Dim], ...]:
    """The dimensions of each input that the host chooses, for torch.export: one `Dim` where the program has one symbol.

    ``most``: the largest size, by input and dimension; memory is planned for it, and one of 1 is fixed.
    """
    dims: dict[str, Dim | None] = {}
    found = []
    for number, node in enumerate(inputs_of(program)):
        own = {}
        for place, size in enumerate(node.meta["val"].shape):
            if isinstance(size, int):
                continue
            symbol = size.node.expr
            if not symbol.is_Symbol:
                raise FirstTokenError(
                    f"input {node.name!r}: its dimension {place} is {symbol}, tied to another one; expected a free or a fixed one: give it a Dim of its own"
                )
            limits = program.range_constraints[symbol]
            lowest, highest = max(1, int(limits.lower)), min(most[number][place], int(min(limits.upper, 1 << 30)))
            if str(symbol) not in dims:
                dims[str(symbol)] = Dim(f"size{len(dims)}", min=lowest, max=highest) if highest > lowest else None
            if (dim := dims[str(symbol)]) is not None:
                own[place] = dim
        found.append(own)
    return tuple(found)


def inputs_of(program: ExportedProgram) -> list[Node]:
    """The placeholders of what the host passes, in order."""
    names = set(program.graph_signature.user_inputs)
    return [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]


def again(graph: GraphModule, example: tuple[Tensor, ...], dimensions: tuple[dict[int, Dim], ...]) -> ExportedProgram:
    """The changed graph as a program with these free dimensions. Raises `FirstTokenError` where one cannot be free."""
    graph.recompile()
    for values in (*graph.parameters(), *graph.buffers()):
        if values.untyped_storage().nbytes() != values.nbytes:  # XNNPACK writes the whole storage that a constant lies in
            values.data = values.detach().clone(memory_format=torch.contiguous_format)
    try:
        return torch.export.export(graph, example, dynamic_shapes=dimensions, strict=False)
    except Exception as error:  # torch.export raises whatever its tracers do
        raise FirstTokenError(f"the rewritten module cannot be exported again: {' '.join(str(error).split())[:300]}") from error


def each(graph: GraphModule, wanted: str, rewrite: Callable[[GraphModule, Node], object]) -> None:
    """Calls ``rewrite`` for every node of an operator."""
    for node in list(graph.graph.nodes):
        if operator(node) == wanted:
            rewrite(graph, node)
