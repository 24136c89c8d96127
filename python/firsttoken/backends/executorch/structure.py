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
from firsttoken.precisions import with_group

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
OF_POSITIONS = {
    "aten.sub.Tensor",
    "aten.clamp.default",
    "aten.div.Tensor_mode",
    "aten.mul.Tensor",
}  # of int64: which rows and logits drafts need
NAMES = {torch.float32: "fp32", torch.float16: "fp16"}


def check_structure(program: ExportedProgram, decoder: Decoder, precisions: Mapping[str, str]) -> None:
    """Raises `FirstTokenError` naming what stayed outside the delegate or went into it in another precision, group or shape.

    ``precisions`` are as `Plan.written` writes them.
    """
    outside: Counter[str] = Counter()
    for node in program.graph.nodes:
        if node.op != "call_function" or (name := operator_name(node)) in OUTSIDE:
            continue
        if name not in OF_POSITIONS or node.meta["val"].dtype != torch.int64:
            outside[name] += 1
    if outside:
        listed = ", ".join(f"{name} ({count})" for name, count in outside.most_common())
        raise FirstTokenError(
            f"lowering left operators outside XNNPACK: {listed}; expected none of these; is executorch another version than 1.5.1?"
        )
    found = delegated_layers(program, softmaxes_of(decoder))
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


def softmaxes_of(decoder: Decoder) -> list[str | None]:
    """The cores in the order of their softmaxes, and None for every softmax that chooses experts."""
    cores = owners(decoder)
    found: list[str | None] = []
    for number, block in enumerate(decoder.layers):
        found += [name] if (name := f"layers.{number}.attention.core") in cores else []
        found += [None] if block.mlp.router is not None and block.mlp.router.scores == "softmax" else []
    return found


def delegated_layers(program: ExportedProgram, cores: list[str | None]) -> dict[str, tuple[str, tuple[int, int] | None]]:
    """Returns ``{layer: (precision, weight's shape)}`` of every linear layer and attention core in the delegates.

    Cores have no weights to go by: the two products around each softmax, in the order of ``cores`` (`softmaxes_of`). Other products are those of
    streams or a delta rule, which no plan addresses.
    """
    found: dict[str, tuple[str, tuple[int, int] | None]] = {}
    products: list[str | None] = []  # the precision of each, and None for a softmax
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
            elif operator_name(step) == "aten.bmm.default":
                products.append(NAMES[step.meta["val"].dtype])
            elif operator_name(step) == "aten._softmax.default":
                products.append(None)
    softmaxes = [n for n, product in enumerate(products) if product is None]
    for core, n in zip(cores, softmaxes, strict=True):
        if core is None:
            continue
        scores, mixed = products[n - 1], products[n + 1]
        assert scores is not None and mixed is not None, "between two softmaxes are the products of two cores"
        found[core] = scores if scores == mixed else f"{scores} and {mixed}", None
    return found


def stored_precision(linear: Node) -> tuple[str, Node]:
    """Returns a linear node's precision and the placeholder that holds its weight."""
    activation, weight = linear.all_input_nodes[:2]
    if weight.op == "placeholder":
        return NAMES[weight.meta["val"].dtype], weight
    precision = integers_of(weight)
    if "dequantize_per_token" not in operator_name(activation):
        precision += " weight-only"  # which XNNPACK computes wrongly
    return precision, weight.all_input_nodes[0]


def integers_of(dequantize: Node) -> str:
    """The precision of a weight by the operator that gives its floats: by the group that it names, or the range of one scale a row."""
    columns = dequantize.meta["val"].shape[1]
    if "per_channel_group" in operator_name(dequantize):
        return f"int4/{dequantize.args[6]}" if dequantize.args[3] == -8 else "unknown"
    return {-8: with_group("int4", columns, columns), -128: "int8"}.get(int(str(dequantize.args[4])), "unknown")


def operator_name(node: Node) -> str:
    """Returns the name of what a node calls, as in "aten.linear.default"."""
    return getattr(node.target, "__name__", str(node.target))
