"""Checking a lowered program before it is written: every layer of the plan in the delegate, as the plan wants it."""

from collections import Counter
from collections.abc import Mapping

import torch
from executorch.exir.lowered_backend_module import LoweredBackendModule
from torch.export import ExportedProgram
from torch.fx import Node

from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import owners, plan_layers
from firsttoken.errors import FirstTokenError

# What runs on ExecuTorch's portable kernels: lookups, cache rows, a convolution's shifted inputs, copies of the mask, casts between two
# precisions, shapes.
OUTSIDE = {
    "sym_size.int", "mul", "add", "getitem", "executorch_call_delegate",
    "_local_scalar_dense.default", "le", "ge", "_assert_scalar.default",  # how many rows are filled
    "quantized_decomposed.embedding_byte.dtype", "quantized_decomposed.embedding_4bit.dtype", "aten.embedding.default",
    "aten._to_copy.default", "aten.arange.start_step", "aten.unsqueeze_copy.default", "aten.add.Tensor", "aten.index.Tensor",
    "aten.eq.Scalar", "scalar_tensor.default", "aten.where.self",  # what a convolution remembers, zeros at position 0
    "aten.lt.Scalar",  # tokens that a table of layers has no row for
    "aten.expand_copy.default", "aten.view_copy.default", "aten.clone.default", "aten.index_put.default", "aten.slice_copy.Tensor",
    "aten.select_copy.int",  # a layer's part of its own embeddings
}  # fmt: skip
NAMES = {torch.float32: "fp32", torch.float16: "fp16"}


def check_structure(program: ExportedProgram, decoder: Decoder, precisions: Mapping[str, str]) -> None:
    """Raises `FirstTokenError` naming what stayed outside the delegate or went into it in another precision or shape."""
    outside: Counter[str] = Counter()
    for node in program.graph.nodes:
        if node.op == "call_function" and (name := operator_name(node)) not in OUTSIDE:
            outside[name] += 1
    if outside:
        listed = ", ".join(f"{name} ({count})" for name, count in outside.most_common())
        raise FirstTokenError(
            f"lowering left operators outside XNNPACK: {listed}; expected none of these; is executorch another version than 1.5.1?"
        )
    found = delegated_layers(program, decoder)
    for layer in plan_layers(decoder):
        if layer.kind == "embedding":
            continue
        got = found.pop(layer.name, None)
        want = (precisions[layer.name], layer.shape)
        if got != want:
            is_now = "absent" if got is None else f"{got[0]} {got[1] or ''}"
            raise FirstTokenError(f"lowering: layer {layer.name!r} should be in XNNPACK as {want[0]} {want[1] or ''}, but is {is_now}")
    if found:
        raise FirstTokenError(f"lowering: XNNPACK holds {next(iter(found))!r}, which the plan does not know")


def delegated_layers(program: ExportedProgram, decoder: Decoder) -> dict[str, tuple[str, tuple[int, int] | None]]:
    """Returns ``{layer: (precision, weight's shape)}`` of every linear layer and attention core in the delegates.

    Cores have no weights to go by: two products each, in the order of the tree.
    """
    cores = list(owners(decoder))
    found: dict[str, tuple[str, tuple[int, int] | None]] = {}
    products = []
    for node in program.graph.nodes:
        if node.op != "get_attr" or not isinstance(lowered := getattr(program.graph_module, node.target), LoweredBackendModule):
            continue
        inside = lowered.original_module
        sources = {**inside.graph_signature.inputs_to_parameters, **inside.graph_signature.inputs_to_buffers}
        for step in inside.graph.nodes:
            if step.op != "call_function":
                continue
            if operator_name(step) == "aten.linear.default":
                precision, weight = stored_precision(step)
                name, _, kind = sources[weight.name].rpartition(".")
                if kind in ("weight", "rows"):  # the others are constants: a norm's mean, the rotation
                    rows, columns = weight.meta["val"].shape
                    found[name] = precision, (rows, columns)
            elif operator_name(step) == "aten.bmm.default" and not mixes_streams(step, decoder):
                products.append(NAMES[step.meta["val"].dtype])
    for core, scores, mixed in zip(cores, products[0::2], products[1::2], strict=True):
        found[core] = scores if scores == mixed else f"{scores} and {mixed}", None
    return found


def mixes_streams(product: Node, decoder: Decoder) -> bool:
    """Whether a batched product is over the streams of a hidden state; in a core's, one of these sizes is known at run time alone."""
    if decoder.streams is None:
        return False
    sizes = product.all_input_nodes[1].meta["val"].shape[1:]
    return all(isinstance(size, int) for size in sizes) and tuple(sizes) == (decoder.streams.count, decoder.hidden_size)


def stored_precision(linear: Node) -> tuple[str, Node]:
    """Returns a linear node's precision and the placeholder that holds its weight."""
    activation, weight = linear.all_input_nodes[:2]
    if weight.op == "placeholder":
        return NAMES[weight.meta["val"].dtype], weight
    precision = "int4" if "per_channel_group" in operator_name(weight) else "int8"
    if "dequantize_per_token" not in operator_name(activation):
        precision += " weight-only"  # which XNNPACK computes wrongly
    return precision, weight.all_input_nodes[0]


def operator_name(node: Node) -> str:
    """Returns the name of what a node calls, as in "aten.linear.default"."""
    return getattr(node.target, "__name__", str(node.target))
