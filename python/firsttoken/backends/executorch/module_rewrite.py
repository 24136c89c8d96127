"""The rewrite of a module's graph by which a transformer becomes one XNNPACK partition or two. Numbers stay those of the module."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_weights

from firsttoken.backends.executorch.module_graph import constant, each, given, operator, put, shape_of
from firsttoken.backends.executorch.module_parts import Attention, HardSigmoid, LayerNorm, Mean, Product, View, sizes
from firsttoken.errors import FirstTokenError
from firsttoken.modules.layers import CONVOLUTIONS

VIEWS = ("aten.view", "aten.reshape", "aten._unsafe_view", "aten.flatten", "aten.unflatten")
BATCH_NORMS = {"aten.batch_norm": (1, 2, 3, 4, 7), "aten._native_batch_norm_legit_no_training": (1, 2, 3, 4, 6)}


def rewrite(graph: GraphModule) -> None:
    """Batch norms into convolutions, products, norms, means and views in XNNPACK's forms. Attention and LSTMs have precisions: `module_quantize`."""
    for norm in BATCH_NORMS:
        each(graph, norm, fold)
    each(graph, "aten.matmul", product)
    each(graph, "aten.layer_norm", layer_norm)
    each(graph, "aten.mean", mean)
    each(graph, "aten.hardsigmoid", lambda graph, node: put(graph, node, HardSigmoid(), node.args[:1], node.name))
    for view in VIEWS:
        each(graph, view, literal_view)


def fold(graph: GraphModule, node: Node) -> None:
    """A batch norm into the convolution before it, if that one's output goes nowhere else."""
    before = node.args[0]
    if not isinstance(before, Node) or operator(before) not in CONVOLUTIONS or len(before.users) != 1:
        return
    weight, bias = constant(graph, before.args[1]), constant(graph, given(before, 2, "bias"))
    factors = [constant(graph, node.args[place]) for place in BATCH_NORMS[operator(node)][:4]]
    if weight is None or factors[2] is None or factors[3] is None:
        return
    epsilon: Any = node.args[BATCH_NORMS[operator(node)][4]]
    new_weight, new_bias = fuse_conv_bn_weights(weight, bias, factors[2], factors[3], epsilon, factors[0], factors[1])
    set_constant(graph, before, 1, new_weight.detach())
    set_constant(graph, before, 2, new_bias.detach())
    node.replace_all_uses_with(before)
    graph.graph.erase_node(node)


def set_constant(graph: GraphModule, node: Node, place: int, value: Tensor) -> None:
    """Gives a node another constant, under a name that keeps the old one's where there was one."""
    old = given(node, place, "bias")
    name = f"folded_{str(old.target if isinstance(old, Node) else node.name + '_bias').replace('.', '_')}"
    graph.register_buffer(name, value)
    with graph.graph.inserting_before(node):
        new = graph.graph.get_attr(name)
    if isinstance(old, Node):
        new.meta = {**old.meta, "weight_of": old.meta.get("weight_of", str(old.target))}
    node.args = (*node.args[:place], new, *node.args[place + 1 :])
    node.kwargs = {key: value for key, value in node.kwargs.items() if key != "bias" or place != 2}


def product(graph: GraphModule, node: Node) -> None:
    a, b = node.args[:2]
    assert isinstance(a, Node) and isinstance(b, Node)
    shapes = shape_of(a), shape_of(b)
    if (
        min(map(len, shapes)) > 2
        and len(shapes[0]) == len(shapes[1])
        and all(x == y for x, y in zip(shapes[0][:-2], shapes[1][:-2], strict=True))
    ):
        put(graph, node, Product(), (a, b), node.name)


def layer_norm(graph: GraphModule, node: Node) -> None:
    normalized = node.args[1]
    if not isinstance(normalized, list | tuple) or len(normalized) != 1 or not isinstance(normalized[0], int):
        return
    weight, bias = (constant(graph, given(node, place, name)) for place, name in ((2, "weight"), (3, "bias")))
    made = LayerNorm(normalized[0], weight, bias, given(node, 4, "eps", 1e-5))
    put(graph, node, made, node.args[:1], node.name)


def mean(graph: GraphModule, node: Node) -> None:
    """Of the last dimension, as an RMSNorm has it."""
    source = node.args[0]
    assert isinstance(source, Node)
    shape, over = shape_of(source), given(node, 1, "dim")
    if (
        isinstance(over, list | tuple)
        and list(over) in ([-1], [len(shape) - 1])
        and given(node, 2, "keepdim", False)
        and isinstance(shape[-1], int)
    ):
        put(graph, node, Mean(shape[-1]), (source,), node.name)


def literal_view(graph: GraphModule, node: Node) -> None:
    wanted = [size for size in sizes(*shape_of(node)) if isinstance(size, int)]
    if len(wanted) == len(shape_of(node)):
        put(graph, node, View(wanted), node.args[:1], node.name)


def attention(graph: GraphModule, node: Node, dtype: torch.dtype) -> None:
    """Attention in ``dtype``. Raises `FirstTokenError` for dropout or groups of heads, which no exported module has had so far."""
    query, key, value = node.args[:3]
    assert isinstance(query, Node) and isinstance(key, Node)
    if given(node, 4, "dropout_p", 0.0) or node.kwargs.get("enable_gqa"):
        raise FirstTokenError(
            f"{node.name}: attention with dropout or with groups of heads (enable_gqa); expected neither: call eval() before torch.export, and repeat keys and values"
        )
    mask, causal = given(node, 3, "attn_mask"), bool(given(node, 5, "is_causal", False))
    scale = given(node, 6, "scale") or 1 / math.sqrt(int(shape_of(query)[-1]))
    inputs = (query, key, value) if mask is None else (query, key, value, mask)
    put(graph, node, Attention(scale, causal, dtype), inputs, node.name)


def check_same(graph: nn.Module, wanted: object, example: tuple[Tensor, ...]) -> None:
    """Raises `FirstTokenError` where the rewritten graph does not give what the module gives, to 1e-4 of its largest value."""
    with torch.no_grad():
        got = flat(graph(*example))
    for number, (ours, theirs) in enumerate(zip(got, flat(wanted), strict=True)):
        largest = max(float(theirs.abs().max()), 1e-6)
        error = float((ours - theirs).abs().max()) / largest
        if not error <= 1e-4:
            raise FirstTokenError(
                f"the module rewritten for XNNPACK gives output {number} with an error of {error:.2g} of its largest value; expected 1e-4 at most: please report this module"
            )


def flat(values: object) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [one.detach() for one in (values.values() if isinstance(values, dict) else values)]  # type: ignore[attr-defined]
