"""Which layer of a module each weighted operator of its converted file computes, by the values of its constants: never by its name."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from firsttoken.backends.tflite.modules.graph_file import GraphFile, Operator
from firsttoken.backends.tflite.modules.likeness import Likeness, likeness
from firsttoken.errors import FirstTokenError
from firsttoken.modules.layers import ModuleLayer

TABLES = ("EMBEDDING_LOOKUP", "GATHER")
PRODUCTS = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "BATCH_MATMUL")
BIASED = {"FULLY_CONNECTED": 2, "CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "CONV_3D": 2, "TRANSPOSE_CONV": 3}
RECURRENT = ("lstm", "other")


@dataclass(frozen=True)
class Weighted:
    """An operator with a constant to multiply with or to look up in: tensor ``weight`` of its subgraph."""

    operator: Operator
    weight: int


@dataclass(frozen=True)
class Match:
    """An operator and the parameter that its constant is: a layer's, or, where ``layer`` is empty, one that no plan names."""

    weighted: Weighted
    layer: str
    parameter: str
    like: Likeness


def weighted_operators(file: GraphFile) -> Iterator[Weighted]:
    """All of a float file, subgraph by subgraph."""
    for graph in range(len(file.model.subgraphs)):
        for operator in file.operators(graph):
            if operator.kind not in (*TABLES, *PRODUCTS):
                continue
            for position in weight_positions(operator):
                found = file.constant(graph, operator.inputs[position])
                if found is not None and found.dtype == np.float32 and found.ndim >= 2:
                    yield Weighted(operator, operator.inputs[position])


def weight_positions(operator: Operator) -> tuple[int, ...]:
    """Which of an operator's inputs can be its weight."""
    if operator.kind == "GATHER":
        return (0,)
    return (0, 1) if operator.kind == "BATCH_MATMUL" else (1,)


def match(file: GraphFile, layers: Sequence[ModuleLayer], state: Mapping[str, Tensor], precisions: Mapping[str, str]) -> list[Match]:
    """Every weighted operator with the one layer that it computes.

    ``state`` are the program's parameters, buffers and constants. Layers that cannot be told apart by their weights are no guess where the plan gives them the same
    precision: then they are taken in order. Raises `FirstTokenError` where they have several, and for an operator or a layer without the other.
    """
    named = {name: (layer, name) for layer in layers for name in layer.weights}
    forms = {name: list(forms_of(value)) for name, value in state.items() if value.is_floating_point() and value.dim() >= 2}
    found: list[Match] = []
    taken: dict[tuple[str, ...], list[int]] = defaultdict(list)  # buffers, by the layers that they may be
    for weighted in weighted_operators(file):
        candidates = _alike(file, weighted, named, forms)
        buffer = file.tensor(weighted.operator.graph, weighted.weight).buffer
        if len(candidates) > 1:
            candidates = [_in_order(candidates, named, precisions, taken[tuple(name for name, _ in candidates)], buffer)]
        parameter, like = candidates[0]
        found.append(Match(weighted, named[parameter][0].name if parameter in named else "", parameter, like))
    _check_all(found, layers)
    return found


def _alike(
    file: GraphFile, weighted: Weighted, named: Mapping[str, tuple[ModuleLayer, str]], forms: Mapping[str, list[np.ndarray]]
) -> list[tuple[str, Likeness]]:
    """The parameters that a constant is most like. Raises `FirstTokenError` where it is like none."""
    rows = list(rows_of(file, weighted))
    table = weighted.operator.kind in TABLES
    scored: dict[str, Likeness] = {}
    for name, shapes in forms.items():
        if name in named and (named[name][0].kind == "embedding") != table:
            continue
        likes = [like for form in shapes for matrix in rows if (like := likeness(matrix, form)) is not None]
        if likes:
            scored[name] = min(likes)
    if not scored:
        graph, output = weighted.operator.graph, weighted.operator.outputs[0]
        raise FirstTokenError(
            f"the converted file has a {weighted.operator.kind} ({file.name(graph, output)[:120]!r}) whose weight {list(file.shape(graph, weighted.weight))} is no "
            "parameter of the module, up to factors of rows and columns: a weight that the module computes (weight norm, a product of two parameters); fold it before "
            "torch.export"
        )
    best = min(scored.values())
    layers = [(name, like) for name, like in scored.items() if like == best and name in named]
    return layers or [(name, like) for name, like in scored.items() if like == best][:1]


def _in_order(
    candidates: Sequence[tuple[str, Likeness]],
    named: Mapping[str, tuple[ModuleLayer, str]],
    precisions: Mapping[str, str],
    taken: list[int],
    buffer: int,
) -> tuple[str, Likeness]:
    """One of several parameters that a constant may equally be."""
    layers = [named[name][0] for name, _ in candidates]
    if len({precisions[layer.name] for layer in layers}) > 1 or len({layer.kind for layer in layers}) > 1:
        raise FirstTokenError(
            f"{', '.join(layer.name for layer in layers)}: their weights are the same up to factors, so which operator of the converted file is which cannot be told; "
            "give them one precision, or share the module between its uses"
        )
    if buffer not in taken:
        taken.append(buffer)
    return candidates[taken.index(buffer) % len(candidates)]


def _check_all(found: Sequence[Match], layers: Sequence[ModuleLayer]) -> None:
    there = {one.parameter for one in found}
    for layer in layers:
        missing = [name for name in layer.weights if name not in there and not name.rpartition(".")[2].startswith("bias")]
        if layer.kind in ("core", "embedding") or not missing:
            continue
        raise FirstTokenError(
            f"{layer.name}: the converted file has no operator with its weight {missing[0]!r}; the converter folded it into constants, "
            "since what it is multiplied with is one: leave it out of the module, or compute it beforehand"
        )


def forms_of(weight: Tensor) -> Iterator[np.ndarray]:
    """A parameter as matrices ``[rows, columns]`` in the orders that converters give it."""
    value = weight.detach().float().numpy()
    if value.ndim == 2:
        yield value
        return
    yield np.ascontiguousarray(np.moveaxis(value, 1, -1)).reshape(len(value), -1)
    transposed = np.moveaxis(value, 0, -1)  # of a transposed convolution [in, out, …]
    yield np.ascontiguousarray(transposed).reshape(len(transposed), -1)
    flipped = transposed[(slice(None), *(slice(None, None, -1),) * (value.ndim - 2))]
    yield np.ascontiguousarray(flipped).reshape(len(flipped), -1)


def rows_of(file: GraphFile, weighted: Weighted) -> Iterator[np.ndarray]:
    """An operator's constant as matrices ``[rows, columns]``, a row for each output channel or entry of a table."""
    value = file.constant(weighted.operator.graph, weighted.weight)
    assert value is not None
    if weighted.operator.kind == "DEPTHWISE_CONV_2D":
        yield np.ascontiguousarray(value.reshape(-1, value.shape[-1]).T)
    elif weighted.operator.kind == "BATCH_MATMUL":
        matrix = value.reshape(-1, value.shape[-1])
        yield np.ascontiguousarray(matrix.T)
        yield matrix
    elif weighted.operator.kind == "CONV_3D":  # [depth, height, width, in, out]
        yield np.ascontiguousarray(np.moveaxis(value, -1, 0)).reshape(value.shape[-1], -1)
    else:
        yield value.reshape(len(value), -1)
