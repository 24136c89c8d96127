"""Every layer of a module's graph in the plan's precision, and under which names the file will keep its weights."""

from hashlib import sha256

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torchao.quantization import IntxUnpackedToInt8Tensor

from firsttoken.backends.executorch.module_convolution import QuantizedConvolution, StaticLinear, stored_bytes
from firsttoken.backends.executorch.module_graph import constant, given, put
from firsttoken.backends.executorch.module_lstm import Lstm
from firsttoken.backends.executorch.module_parts import HalfEmbedding, HalfLinear, ModuleEmbedding
from firsttoken.backends.executorch.module_rewrite import attention
from firsttoken.backends.executorch.modules import QuantizedEmbedding, QuantizedLinear
from firsttoken.errors import FirstTokenError
from firsttoken.modules.layers import ModuleLayer

GROUP = 32
"""Columns of a row that share a scale in int4, where the row is a multiple of it; else the row has one."""
HALF_MAX = 65504.0
QUANTIZED = {"int8": torch.int8, "int4": torch.int4}  # type: ignore[attr-defined]  # PyTorch's stubs lack int4


def to_precision(graph: GraphModule, node: Node, layer: ModuleLayer, precision: str) -> list[str]:
    """Replaces a layer's node by one in ``precision``; returns the SHA-256 of each constant that the file then has of it."""
    return {
        "linear": linear, "conv": convolution, "depthwise": convolution, "embedding": embedding, "lstm": lstm, "core": core, "other": other,
    }[layer.kind](graph, node, layer, precision)  # fmt: skip


def linear(graph: GraphModule, node: Node, layer: ModuleLayer, precision: str) -> list[str]:
    weight, bias = weight_of(graph, node, layer), constant(graph, given(node, 2, "bias"))
    made = make_linear(weight, bias, layer.name, precision)
    if precision != "fp32":
        put(graph, node, made, node.args[:1], node.name)
    return [key_of_linear(made)]


def make_linear(weight: Tensor, bias: Tensor | None, name: str, precision: str) -> nn.Module:
    """A linear layer ``[out, in]``. Raises `FirstTokenError` for a weight that the precision cannot hold."""
    if precision == "fp32":
        made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
        made.weight = nn.Parameter(weight, requires_grad=False)
        if bias is not None:
            made.bias = nn.Parameter(bias, requires_grad=False)
        return made
    if precision == "fp16":
        check_half(weight, bias, name)
        return HalfLinear(weight, bias)
    if precision == "int8-static":
        return StaticLinear(weight, bias)
    columns = weight.shape[1]
    if precision == "int4" and columns % 2:
        raise FirstTokenError(f"layer {name!r}: its rows have {columns} weights, and int4 packs two in a byte; give it int8 in the plan")
    group = GROUP if precision == "int4" and columns % GROUP == 0 else columns
    part = IntxUnpackedToInt8Tensor.from_hp(weight.contiguous(), (1, group), QUANTIZED[precision])
    return QuantizedLinear(part.qdata, part.scale, bias, precision)


def convolution(graph: GraphModule, node: Node, layer: ModuleLayer, precision: str) -> list[str]:
    weight, bias = weight_of(graph, node, layer), constant(graph, given(node, 2, "bias"))
    if precision == "fp32":
        return [f"{sha256(stored_bytes(weight)).hexdigest()}|{key(weight)}"]  # the latter where ExecuTorch's own kernel has it
    stride, padding, dilation, groups = (
        given(node, place, name, default)
        for place, name, default in ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1), (6, "groups", 1))
    )
    if precision == "int8" and weight.dim() == 5:
        raise FirstTokenError(f"layer {layer.name!r}: XNNPACK has no convolution over volumes; give it fp32 in the plan")
    spatial = weight.dim() - 2
    made = QuantizedConvolution(
        weight,
        bias,
        spread(stride, spatial),
        padding if isinstance(padding, str) else spread(padding, spatial),
        spread(dilation, spatial),
        groups,
        precision == "int8-static",
    )
    put(graph, node, made, node.args[:1], node.name)
    return [sha256(stored_bytes(made.rows)).hexdigest()]


def spread(given: int | list[int], dimensions: int) -> list[int]:
    """A stride and the like for every dimension, of which torch takes one number for all."""
    listed = [given] if isinstance(given, int) else list(given)
    return listed * dimensions if len(listed) == 1 else listed


def embedding(graph: GraphModule, node: Node, layer: ModuleLayer, precision: str) -> list[str]:
    weight, tokens = weight_of(graph, node, layer, 0), node.args[1]
    if precision == "fp32":
        return [key(weight)]
    table: nn.Module
    if precision == "fp16":
        check_half(weight, None, layer.name)
        table = HalfEmbedding(weight)
        put(graph, node, table, (tokens,), node.name)
        return [key(table.weight)]
    part = IntxUnpackedToInt8Tensor.from_hp(weight.contiguous(), (1, weight.shape[1]), torch.int8)
    table = QuantizedEmbedding(part.qdata, part.scale, "int8")
    put(graph, node, ModuleEmbedding(table), (tokens,), node.name)
    return [key(table.rows)]


def lstm(graph: GraphModule, node: Node, layer: ModuleLayer, precision: str) -> list[str]:
    """Unrolled in any precision. Raises `FirstTokenError` for a projection, which the unrolled one has not."""
    listed, states = node.args[2], node.args[1]
    assert isinstance(listed, list | tuple) and isinstance(states, list | tuple)
    biases, layers, bidirectional, batch_first = bool(node.args[3]), int(node.args[4]), bool(node.args[7]), bool(node.args[8])  # type: ignore[arg-type]
    weights = [constant(graph, argument) for argument in listed]
    if any(weight is None for weight in weights) or len(weights) != (4 if biases else 2) * layers * (1 + bidirectional):
        raise FirstTokenError(
            f"layer {layer.name!r}: an LSTM with a projection (proj_size) or with weights that are computed; expected plain parameters"
        )

    def maker(weight: Tensor, bias: Tensor | None) -> nn.Module:
        return make_linear(weight, bias, layer.name, precision)

    made = Lstm([weight for weight in weights if weight is not None], biases, layers, bidirectional, batch_first, maker)
    put(graph, node, made, (node.args[0], *states), node.name)
    return [key_of_linear(part) for cell in made.cells for part in (*cell.of_input, *cell.of_state)]  # type: ignore[misc]


def core(graph: GraphModule, node: Node, layer: ModuleLayer, precision: str) -> list[str]:
    attention(graph, node, torch.float16 if precision == "fp16" else torch.float32)
    return []


def other(graph: GraphModule, node: Node, layer: ModuleLayer, precision: str) -> list[str]:
    """What no precision but FP32 is offered for stays as it is, and no runtime promises where it runs."""
    return []


def weight_of(graph: GraphModule, node: Node, layer: ModuleLayer, place: int = 1) -> Tensor:
    weight = constant(graph, node.args[place])
    if weight is None:
        raise FirstTokenError(f"layer {layer.name!r}: its weight is computed; expected a parameter")
    return weight


def check_half(weight: Tensor, bias: Tensor | None, name: str) -> None:
    """Raises `FirstTokenError` for numbers that become infinite."""
    largest = max(float(part.abs().max()) for part in (weight, bias) if part is not None)
    if not largest <= HALF_MAX:
        raise FirstTokenError(
            f"layer {name!r}: its weights reach {largest:.3g}, beyond float16's 65504; give it another precision in the plan"
        )


def key(values: Tensor) -> str:
    """The SHA-256 of a tensor's bytes, which is what XNNPACK calls a constant."""
    return sha256(values.detach().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def key_of_linear(made: nn.Module) -> str:
    if not isinstance(made, QuantizedLinear | StaticLinear):
        return key(made.weight)  # type: ignore[arg-type]
    return key(packed(made.rows) if isinstance(made, QuantizedLinear) and made.precision == "int4" else made.rows)


def packed(rows: Tensor) -> Tensor:
    """int4 rows as XNNPACK keeps them: two a byte, each value + 8, the earlier one in the low bits."""
    shifted = (rows + 8).view(torch.uint8)
    return shifted[:, 1::2] << 4 | shifted[:, ::2]
