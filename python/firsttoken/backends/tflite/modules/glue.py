"""Operators without a weight that stand between static layers: they compute in the same integers, so that nothing is made a float on the way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from firsttoken.backends.tflite.modules.graph_file import GraphFile, Operator
from firsttoken.backends.tflite.modules.matching import Match
from firsttoken.backends.tflite.modules.recipe import anchored

JOINING = {
    "ADD": "ADD",
    "MAX_POOL_2D": "MAX_POOL_2D",
    "AVERAGE_POOL_2D": "AVERAGE_POOL_2D",
    "PAD": "PAD",
    "MEAN": "MEAN",
    "RESHAPE": "RESHAPE",
}
"""Of those that XNNPACK has in INT8, the ones of convolutional networks."""


@dataclass(frozen=True)
class Glue:
    """An operator that joins static ones, the tensors whose ranges it needs, and its rule."""

    operator: Operator
    tensors: tuple[int, ...]
    rule: dict[str, Any]


def glue_operators(file: GraphFile, graph: int, static: Sequence[Match]) -> list[Glue]:
    """Those of a graph whose inputs all come from static operators, and whose every user is one."""
    operators = list(file.operators(graph))
    integers = {one.weighted.operator.index for one in static if one.weighted.operator.graph == graph}
    made_by = {output: operator.index for operator in operators for output in operator.outputs}
    users: dict[int, list[int]] = {}
    for operator in operators:
        for tensor in operator.inputs:
            users.setdefault(tensor, []).append(operator.index)
    inside = {operator.index for operator in operators if operator.kind in JOINING}
    while True:  # until no more fall away
        kept = {
            index
            for index in inside
            if all(
                file.raw(graph, tensor) is not None or made_by.get(tensor) in integers | inside
                for tensor in operators[index].inputs
                if tensor >= 0
            )
            and all(user in integers | inside for output in operators[index].outputs for user in users.get(output, [-1]))
        }
        if kept == inside:
            break
        inside = kept
    found = []
    for index in sorted(inside):
        operator = operators[index]
        floats = tuple(tensor for tensor in (*operator.inputs, *operator.outputs) if tensor >= 0 and file.raw(graph, tensor) is None)
        found.append(Glue(operator, floats, anchored(file.name(graph, operator.outputs[0]), JOINING[operator.kind], "int8-static")))
    return found
