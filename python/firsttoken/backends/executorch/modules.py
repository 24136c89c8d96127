"""Quantized layers as the operators that ExecuTorch and its XNNPACK partitioner know.

The operators are called directly, where torchao's tensor subclass would give its own ``*_affine`` ones: those have no
shape functions, so every pass over the graph would run their whole arithmetic again for each layer (a third of the
export time), and the subclass' embedding is only fused later, by way of the whole embedding in float32.
"""

import torch
import torch.ao.quantization.fx._decomposed
import torch.nn.functional as functional
from executorch.exir.passes import _quant_patterns_and_replacements  # noqa: F401  registers quantized_decomposed::embedding_*
from torch import Tensor, nn

from firsttoken.precisions import OUTLIER

BOUNDS = {"int8": (-128, 127), "int4": (-8, 7)}
INT8 = torch.int8


class QuantizedLinear(nn.Module):
    """Linear layer on int8 rows (one scale each) or int4 rows (one scale each or per group), float32 in and out.

    Activations are quantized to int8 as they come, with scale and zero point per token (XNNPACK's QD8 kernels);
    weight-only quantization is not offered, because XNNPACK computes it wrongly. ``rows`` is int8 ``[out, in]`` with
    values in the precision's bounds, ``scales`` float32 ``[out, groups]``, symmetric. ``apart``: outliers of x are rounded by themselves.
    """

    rows: Tensor
    scales: Tensor
    zero_points: Tensor
    bias: Tensor | None
    mean_row: Tensor

    def __init__(self, rows: Tensor, scales: Tensor, bias: Tensor | None, precision: str, apart: bool = False) -> None:
        super().__init__()
        self.precision, self.group, self.apart = precision, rows.shape[1] // scales.shape[1], apart
        if apart:  # a mean as XNNPACK takes it (`norm`)
            self.register_buffer("mean_row", outlier_row(rows.shape[1]), persistent=False)
        scales = scales if scales.shape[1] > 1 else scales.reshape(-1)
        self.register_buffer("rows", rows)
        self.register_buffer("scales", scales)
        self.register_buffer("zero_points", torch.zeros(scales.shape, dtype=INT8))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Takes float32 ``[..., in]``, returns float32 ``[..., out]``."""
        if not self.apart:
            return self.product(x, self.bias)
        limit = torch.sqrt(functional.linear(x * x, self.mean_row))
        inner = torch.minimum(torch.maximum(x, -limit), limit)
        both = self.product(torch.cat((inner, x - inner)), None)  # together, so that the weight is read once
        found = both[: x.shape[0]] + both[x.shape[0] :]
        return found if self.bias is None else found + self.bias

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """``x @ weight^T + bias``, every token of x rounded to int8."""
        operators, low, high = torch.ops.quantized_decomposed, *BOUNDS["int8"]
        scales, zero_points = operators.choose_qparams_per_token_asymmetric(x, INT8)
        x = operators.quantize_per_token(x, scales, zero_points, low, high, INT8)
        x = operators.dequantize_per_token(x, scales, zero_points, low, high, INT8, torch.float32)
        low, high = BOUNDS[self.precision]
        if self.scales.dim() == 2:
            dequantize, last = operators.dequantize_per_channel_group, (low, high, INT8, self.group, torch.float32)
            weight = dequantize(self.rows, self.scales, self.zero_points, *last)
        else:
            weight = operators.dequantize_per_channel(self.rows, self.scales, self.zero_points, 0, low, high, INT8)
        return functional.linear(x, weight, bias)


def outlier_row(columns: int) -> Tensor:
    """What the squares of a token's input are multiplied by for the square of its outliers' limit, ``[1, columns]``."""
    return torch.full((1, columns), OUTLIER**2 / columns, device="cpu")


class QuantizedEmbedding(nn.Module):
    """Embedding with int8 rows (one scale each) or int4 rows (one scale each or per group), float32 out."""

    rows: Tensor
    scales: Tensor

    def __init__(self, rows: Tensor, scales: Tensor, precision: str) -> None:
        super().__init__()
        self.precision = precision
        if precision == "int4":  # two values a byte, the earlier one in the high bits, stored as value + 8
            rows = ((rows[:, 0::2] + 8) << 4).view(torch.uint8) | (rows[:, 1::2] + 8).view(torch.uint8)
        self.register_buffer("rows", rows)
        self.register_buffer("scales", scales if precision == "int4" else scales.reshape(-1))

    def forward(self, tokens: Tensor) -> Tensor:
        """Takes int64 ``[1, S]``, returns float32 ``[1, S, hidden_size]``."""
        operators = torch.ops.quantized_decomposed
        operator = operators.embedding_4bit if self.precision == "int4" else operators.embedding_byte
        return operator.dtype(self.rows, self.scales, None, *BOUNDS[self.precision], tokens, dtype=torch.float32)
