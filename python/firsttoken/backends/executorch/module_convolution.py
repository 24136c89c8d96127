"""Convolutions on int8 weights, as ExecuTorch's XNNPACK partitioner knows them: inputs rounded as they come, or to ranges decided before."""

import torch
import torch.ao.quantization.fx._decomposed
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from firsttoken.backends.executorch.module_ranges import HIGH, LOW, Rounding

INT8 = torch.int8
OPERATORS = torch.ops.quantized_decomposed


class QuantizedConvolution(nn.Module):
    """A convolution over images or series on int8 weights, one scale an output channel, float32 in and out.

    ``static``: its input comes rounded already, and what takes its output rounds that. Else every image is rounded as it comes: XNNPACK has such a kernel
    for images alone, so that a series is taken for an image of height 1, and not for one input channel, of which it makes a depthwise one: it gets two.
    """

    rows: Tensor
    scales: Tensor
    zero_points: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int] | str,
        dilation: list[int],
        groups: int,
        static: bool,
    ) -> None:
        super().__init__()
        self.widened, self.doubled, self.static, self.groups = (
            weight.dim() == 3 and not static,
            weight.shape[1] == 1 and not static,
            static,
            groups,
        )
        self.compute = functional.conv1d if weight.dim() == 3 and static else functional.conv2d
        weight = weight.unsqueeze(2) if self.widened else weight
        if self.doubled:
            weight = torch.cat((weight, torch.zeros_like(weight)), 1)
        rows, scales = quantized_rows(weight)
        self.stride, self.dilation = [*[1] * self.widened, *stride], [*[1] * self.widened, *dilation]
        self.padding = padding if isinstance(padding, str) else [*[0] * self.widened, *padding]
        self.register_buffer("rows", rows)
        self.register_buffer("scales", scales)
        self.register_buffer("zero_points", torch.zeros(len(scales), dtype=torch.int64))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns float32 ``[batch, channels, height, width]`` or ``[batch, channels, steps]``."""
        x = x.unsqueeze(2) if self.widened else x
        if self.doubled:
            x = torch.cat((x, x), 1)
        if not self.static:
            scale, zero = OPERATORS.choose_qparams.tensor(x, LOW, HIGH, 1e-9, INT8)
            x = OPERATORS.quantize_per_tensor.tensor(x, scale, zero, LOW, HIGH, INT8)
            x = OPERATORS.dequantize_per_tensor.tensor(x, scale, zero, LOW, HIGH, INT8)
        weight = OPERATORS.dequantize_per_channel(self.rows, self.scales, self.zero_points, 0, LOW, HIGH, INT8)
        found = self.compute(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        return found.squeeze(2) if self.widened else found


class StaticLinear(nn.Module):
    """A linear layer on int8 rows whose input comes rounded; what takes its output rounds that."""

    rows: Tensor
    scales: Tensor
    zero_points: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        rows, scales = quantized_rows(weight)
        self.register_buffer("rows", rows)
        self.register_buffer("scales", scales)
        self.register_buffer("zero_points", torch.zeros(len(scales), dtype=torch.int64))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Takes float32 ``[..., in]``, returns float32 ``[..., out]``."""
        return functional.linear(
            x, OPERATORS.dequantize_per_channel(self.rows, self.scales, self.zero_points, 0, LOW, HIGH, INT8), self.bias
        )


def quantized_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 values of the weight's shape, and a scale for each of its output channels."""
    largest = weight.flatten(1).abs().amax(1)
    scales = torch.where(largest > 0, largest / HIGH, torch.ones_like(largest)).clamp(min=1e-8)
    return (weight / scales.view(-1, *[1] * (weight.dim() - 1))).round().clamp(-HIGH, HIGH).to(INT8), scales


def stored_bytes(weight: Tensor) -> bytes:
    """A convolution's weight as XNNPACK keeps it: channels last, and of a depthwise one (an input channel each) the output channels last."""
    places = list(range(2, weight.dim()))
    order = (*places, 0, 1) if weight.shape[1] == 1 else (0, *places, 1)
    return weight.permute(order).contiguous().view(torch.uint8).numpy().tobytes()


def round_after(graph: GraphModule, node: Node, rounding: Rounding, users: list[Node]) -> None:
    """Rounds a node's tensor to int8 for ``users``, each with its own way back to floats: XNNPACK would take a shared one for an integer everywhere."""
    arguments = (rounding.scale, rounding.zero_point, LOW, HIGH, INT8)
    with graph.graph.inserting_after(node):
        integers = graph.graph.call_function(OPERATORS.quantize_per_tensor.default, (node, *arguments))
    last = integers
    for user in users:
        with graph.graph.inserting_after(last):
            last = graph.graph.call_function(OPERATORS.dequantize_per_tensor.default, (integers, *arguments))
        user.replace_input_with(node, last)
