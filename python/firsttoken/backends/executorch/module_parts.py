"""Attention, norms, recurrences and views of a module in constructs that XNNPACK takes, also where the host chooses the batch or the length.

XNNPACK refuses a view to a symbolic size (a literal -1 is fine), a slice of a tensor with a free dimension, an expansion, and a mean of anything but images;
each of these would end a partition, and a transformer has some of them in every layer.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

MASKED = -3e4
"""What stands for minus infinity: as a number of half precision it is finite, and ``exp`` of it is 0 beside any score that is seen."""


def sizes(*wanted: int | torch.SymInt) -> list[int | torch.SymInt]:
    """A view's sizes, the free one among them as a literal -1; two free ones stay as they are, and XNNPACK refuses them."""
    free = [size for size in wanted if not isinstance(size, int)]
    return [-1 if not isinstance(size, int) else size for size in wanted] if len(free) == 1 else list(wanted)


class View(nn.Module):
    """A view or reshape to sizes of which one may be -1."""

    def __init__(self, wanted: Sequence[int]) -> None:
        super().__init__()
        self.wanted = list(wanted)

    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous().view(self.wanted)


class Product(nn.Module):
    """``a @ b`` of two stacks of matrices with the same leading dimensions, as one batched product: aten.matmul would expand both first."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Takes ``[..., n, k]`` and ``[..., k, m]``, returns ``[..., n, m]``."""
        leading = a.shape[:-2]
        many = 1
        for size in leading:
            many = many * size
        together = torch.bmm(
            a.contiguous().view(sizes(many, *a.shape[-2:])) if len(leading) != 1 else a,
            b.contiguous().view(sizes(many, *b.shape[-2:])) if len(leading) != 1 else b,
        )
        return together.view(sizes(*leading, a.shape[-2], b.shape[-1])) if len(leading) != 1 else together


class Attention(nn.Module):
    """aten.scaled_dot_product_attention (Vaswani et al. 2017, arXiv 1706.03762) as product, softmax, product, in float32 or float16.

    A mask of bool or of floats, or ``causal``; a token that may see nothing gets a mean of what it does not see, where PyTorch gives zeros or NaN.
    """

    factor: Tensor

    def __init__(self, scale: float, causal: bool, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.causal, self.dtype, self.product = causal, dtype, Product()
        self.register_buffer("factor", torch.full((1,), scale, dtype=dtype), persistent=False)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Takes query ``[..., T, d]``, key and value ``[..., S, d]``, a mask that broadcasts to ``[..., T, S]``; returns ``[..., T, d]`` in float32."""
        query, key, value = query.to(self.dtype), key.to(self.dtype), value.to(self.dtype)
        scores = self.product(query * self.factor, key.transpose(-2, -1))
        if self.causal:
            places = torch.arange(key.shape[-2])
            mask = places[None, :] <= torch.arange(query.shape[-2])[:, None]
        if mask is not None:
            scores = scores + additive(mask).to(self.dtype)
        return self.product(torch.softmax(scores, -1), value).to(torch.float32)


def additive(mask: Tensor) -> Tensor:
    """A mask as finite numbers that are added to scores."""
    if mask.dtype == torch.bool:
        return (~mask).to(torch.float32) * MASKED
    return torch.clamp(mask, min=MASKED)


class Mean(nn.Module):
    """The mean of the last dimension, which stays with size 1, as a linear layer with one constant row."""

    row: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("row", torch.full((1, size), 1.0 / size), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.row)


class LayerNorm(nn.Module):
    """LayerNorm over the last dimension (Ba et al. 2016, arXiv 1607.06450), float32."""

    epsilon: Tensor
    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, size: int, weight: Tensor | None, bias: Tensor | None, epsilon: float) -> None:
        super().__init__()
        self.mean = Mean(size)
        self.register_buffer("epsilon", torch.full((1,), epsilon), persistent=False)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x - self.mean(x)
        x = x * torch.rsqrt(functional.linear(x * x, self.mean.row, self.epsilon))
        x = x if self.weight is None else x * self.weight
        return x if self.bias is None else x + self.bias


class HalfLinear(nn.Module):
    """A linear layer in float16 between casts, float32 in and out."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.half())
        self.register_buffer("bias", None if bias is None else bias.half())

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x.half(), self.weight, self.bias).float()


class HalfEmbedding(nn.Module):
    """A table in float16, float32 out."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.half())

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.embedding(tokens, self.weight).float()


class ModuleEmbedding(nn.Module):
    """A table of integers, looked up by int32 or int64 of any shape."""

    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self.table = table

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table(tokens if tokens.dtype == torch.int64 else tokens.to(torch.int64))


class HardSigmoid(nn.Module):
    """``clamp(x / 6 + 1 / 2, 0, 1)``: aten's is decomposed over constants that are cast at every call, outside XNNPACK."""

    slope: Tensor
    middle: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("slope", torch.full((1,), 1 / 6), persistent=False)
        self.register_buffer("middle", torch.full((1,), 0.5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(x * self.slope + self.middle, 0.0, 1.0)
