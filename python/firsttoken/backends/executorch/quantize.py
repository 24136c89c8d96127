"""Quantizing one layer's weight, block of rows by block of rows, with torchao's arithmetic.

Rows are independent of each other in every precision, so a head of 150 000 rows is never held in float32.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchao.quantization import IntxUnpackedToInt8Tensor

from firsttoken.backends.executorch.load import fill, tensor
from firsttoken.backends.executorch.modules import QuantizedEmbedding, QuantizedLinear
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import Layer
from firsttoken.errors import FirstTokenError
from firsttoken.lattice import bounds

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
QUANTIZED = {"int8": torch.int8, "int4": torch.int4}  # type: ignore[attr-defined]  # PyTorch's stubs lack int4
BLOCK_VALUES = 1 << 20  # weights held in float32 at once


def row_blocks(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yields ``(start, stop)`` of blocks of rows that together make a matrix of ``shape``."""
    step = max(1, BLOCK_VALUES // shape[1])
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


def read_quantized(checkpoint: Checkpoint, layer: Layer, precision: str, group: int | None = None) -> tuple[Tensor, Tensor]:
    """Reads a weight as int8 values ``[rows, columns]`` and float32 scales ``[rows, groups]``, symmetric; ``group`` None: one scale a row.

    The arithmetic is torchao's (``Int8DynamicActivationIntxWeightConfig`` uses the same function).
    """
    weight, (rows, columns) = layer.matrix
    group = group or columns
    values = torch.empty(rows, columns, dtype=torch.int8)
    scales = torch.empty(rows, columns // group)
    for start, stop in row_blocks((rows, columns)):
        block, given = tensor(checkpoint.rows(weight, start, stop)), checkpoint.scales(weight, start, stop)
        if given is not None:  # integers already, and these are their scales
            scales[start:stop] = tensor(given)
            values[start:stop] = (
                (block.unflatten(1, (-1, group)) / scales[start:stop, :, None]).round_().clamp_(*bounds(precision)).flatten(1)
            )
            continue
        part = IntxUnpackedToInt8Tensor.from_hp(block, (1, group), QUANTIZED[precision])
        values[start:stop], scales[start:stop] = part.qdata, part.scale
    return values, scales


def read_plain(checkpoint: Checkpoint, layer: Layer, precision: str) -> Tensor:
    """Reads a weight as float32 or float16. Raises `FirstTokenError` for a value that float16 cannot hold."""
    weight, shape = layer.matrix
    values = torch.empty(shape, dtype=DTYPES[precision])
    for start, stop in row_blocks(shape):
        values[start:stop] = tensor(checkpoint.rows(weight, start, stop))
        check_range(values[start:stop], layer, "weight")
    return values


def check_range(values: Tensor, layer: Layer, what: str) -> None:
    """Raises `FirstTokenError` if rounding to float16 made an infinity."""
    if values.dtype == torch.float16 and values.numel() and not torch.isfinite(values).all():
        raise FirstTokenError(f"layer {layer.name!r}: its {what} has values beyond float16's 65504; give it another precision in the plan")


def read_linear(checkpoint: Checkpoint, layer: Layer, precision: str, group: int | None = None, apart: bool = False) -> nn.Module:
    """Reads a linear layer as a module in ``precision``; ``group`` columns of a row share one scale, None: all; ``apart`` as in `QuantizedLinear`."""
    bias = tensor(checkpoint.vector(layer.bias)).to(DTYPES.get(precision, torch.float32)) if layer.bias else None
    if bias is not None:
        check_range(bias, layer, "bias")
    if precision in QUANTIZED:
        return QuantizedLinear(*read_quantized(checkpoint, layer, precision, group), bias, precision, apart)
    _, (rows, columns) = layer.matrix
    with torch.device("meta"):
        linear = nn.Linear(columns, rows, bias=bias is not None)
    fill(linear, "weight", read_plain(checkpoint, layer, precision))
    if bias is not None:
        fill(linear, "bias", bias)
    return linear


def read_embedding(checkpoint: Checkpoint, layer: Layer, precision: str, group: int | None = None) -> nn.Module:
    """Reads the embedding as a module in ``precision``."""
    if precision in QUANTIZED:
        return QuantizedEmbedding(*read_quantized(checkpoint, layer, precision, group), precision)
    _, (rows, columns) = layer.matrix
    with torch.device("meta"):
        embedding = nn.Embedding(rows, columns)
    fill(embedding, "weight", read_plain(checkpoint, layer, precision))
    return embedding
