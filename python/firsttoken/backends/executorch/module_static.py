"""Where activations are rounded to ranges decided before: before and after every layer that the plan wants so."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch.fx import GraphModule, Node

from firsttoken.backends.executorch.module_convolution import round_after
from firsttoken.backends.executorch.module_graph import operator
from firsttoken.backends.executorch.module_ranges import Rounding, values_of

FUSED = {"aten.relu", "aten.relu_", "aten.hardtanh", "aten.hardtanh_"}
"""What XNNPACK computes together with the layer before it."""


def round_activations(
    graph: GraphModule, layers: Mapping[Node, str], methods: Mapping[str, str], samples: Sequence[np.ndarray], batch: int
) -> dict[str, tuple[Rounding, Rounding]]:
    """Rounds what the nodes in ``layers`` (a name each) take and give; returns both roundings by layer.

    A tensor between two of them is rounded once. What another operator takes of a layer's input stays as it was: a sum of two branches keeps its
    precision. Raises `FirstTokenError` without samples.
    """
    if not layers:
        return {}
    ends = {node: end_of(node) for node in layers}
    method: dict[Node, str] = {}
    for node, name in layers.items():
        method[ends[node]] = methods.get(name, "min-max")
        source = node.args[0]
        assert isinstance(source, Node)
        method.setdefault(source, methods.get(name, "min-max"))
    values = values_of(graph, list(method), samples, batch, counted=set(method.values()) != {"min-max"})
    roundings = {node: values[node].rounding(how) for node, how in method.items()}
    found = {name: (roundings[node.args[0]], roundings[ends[node]]) for node, name in layers.items()}  # type: ignore[index]
    outputs = set(ends.values())
    for node, rounding in roundings.items():
        users = list(node.users) if node in outputs else [user for user in node.users if user in layers]
        round_after(graph, node, rounding, users)
    return found


def end_of(node: Node) -> Node:
    """The node whose output is rounded: the layer's, or that of an activation which XNNPACK computes with it."""
    [*users] = node.users
    return users[0] if len(users) == 1 and operator(users[0]) in FUSED else node
