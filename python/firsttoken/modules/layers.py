"""The layers of a module that a plan can name: whatever has a weight, by its parameter's dotted name, and the cores of attention.

They are read from the exported graph and not from Python's classes, so that a layer that is called by a function has its name too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch.export import ExportedProgram
from torch.fx import Node

from firsttoken.errors import FirstTokenError

Kind = Literal["linear", "conv", "depthwise", "embedding", "lstm", "other", "core"]

CONVOLUTIONS = {f"aten.conv{dimensions}d" for dimensions in (1, 2, 3)}
OTHERS = {
    "aten.gru",
    "aten.rnn_tanh",
    "aten.rnn_relu",
    "aten.bilinear",
    "aten.embedding_bag",
    *(f"aten.conv_transpose{n}d" for n in (1, 2, 3)),
}
WEIGHT = {"aten.linear": 1, "aten.embedding": 0} | dict.fromkeys(CONVOLUTIONS, 1)


@dataclass(frozen=True)
class ModuleLayer:
    """``weights`` are names in the program's state, the parameters of an LSTM in torch's order; ``nodes`` the graph's nodes that use them.

    ``shape`` is the weight's, ``None`` for a core, which multiplies activations with each other.
    """

    name: str
    kind: Kind
    weights: tuple[str, ...]
    nodes: tuple[str, ...]
    shape: tuple[int, ...] | None = None


def module_layers(program: ExportedProgram) -> list[ModuleLayer]:
    """The layers of a program in the order in which it computes them; one whose weight is used again stands where it is used first.

    Raises `FirstTokenError` for a weight that the program computes before it uses it.
    """
    found: dict[str, ModuleLayer] = {}
    for node in program.graph.nodes:
        layer = layer_of(program, node) if node.op == "call_function" else None
        if layer is None:
            continue
        if (before := found.get(layer.name)) is not None:
            if before.kind != layer.kind:
                raise FirstTokenError(f"{layer.name}: one weight is used as {before.kind} and as {layer.kind}; expected one use")
            layer = ModuleLayer(layer.name, layer.kind, layer.weights, (*before.nodes, *layer.nodes), layer.shape)
        found[layer.name] = layer
    return list(found.values())


def layer_of(program: ExportedProgram, node: Node) -> ModuleLayer | None:
    """The layer that a node of the graph computes; None for a node that is none."""
    operation = str(node.target).rpartition(".")[0]
    if operation == "aten.scaled_dot_product_attention":
        return ModuleLayer(f"{scope(node)}.core".lstrip("."), "core", (), (node.name,))
    if operation == "aten.lstm":
        names = tuple(weight_name(program, argument) for argument in node.args[2])  # type: ignore[union-attr]
        return ModuleLayer(scope(node) or "lstm", "lstm", names, (node.name,), tuple(program.state_dict[names[0]].shape))
    if operation in OTHERS:
        names = tuple(weights_of(program, node))
        return ModuleLayer(
            scope(node) or node.name, "other", names, (node.name,), tuple(program.state_dict[names[0]].shape) if names else None
        )
    if operation not in WEIGHT:
        return None
    name = weight_name(program, node.args[WEIGHT[operation]])
    shape = tuple(program.state_dict[name].shape)
    return ModuleLayer(layer_name(name), kind_of(operation, shape), (name,), (node.name,), shape)


def kind_of(operation: str, shape: tuple[int, ...]) -> Kind:
    if operation == "aten.linear":
        return "linear"
    if operation == "aten.embedding":
        return "embedding"
    return "depthwise" if shape[1] == 1 else "conv"  # converters make one of a single input channel, too


def layer_name(weight: str) -> str:
    """A layer by the name of its weight: "encoder.0.query" of "encoder.0.query.weight", "attention.in_proj" of "attention.in_proj_weight"."""
    return weight.removesuffix("weight").rstrip("._") or weight


def weight_name(program: ExportedProgram, argument: object) -> str:
    """The name, in the program's state, of a node's argument. Raises `FirstTokenError` for one that is computed."""
    signature = program.graph_signature
    if isinstance(argument, Node):
        for names in (signature.inputs_to_parameters, signature.inputs_to_buffers):
            if argument.name in names:
                return names[argument.name]
    raise FirstTokenError(
        f"{argument}: a weight that the module computes (weight norm, a transposed table); expected a parameter: fold it before torch.export"
    )


def weights_of(program: ExportedProgram, node: Node) -> Iterator[str]:
    """The names of the parameters among a node's arguments."""
    for argument in node.all_input_nodes:
        name = program.graph_signature.inputs_to_parameters.get(argument.name)
        if name is not None:
            yield name


def scope(node: Node) -> str:
    """The dotted name of the module that a node is from; empty for the outermost."""
    stack = node.meta.get("nn_module_stack") or {}
    return list(stack.values())[-1][0] if stack else ""
