"""Any loss over a vocabulary head, without ever holding all logits.

2048 positions times 151,936 tokens in float32 are 1.24 GB, for the student, the teacher and the gradient each. Here a
chunk of positions goes through the head, its loss and its gradient are computed at once, and its logits are dropped
before the next chunk (the idea of Liger's fused linear losses, arXiv:2410.10989). What stays is one gradient of the
shape of the hidden states and one of the shape of the head.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# (student logits of a chunk [n, vocab], the chunk's positions) -> (scalar to minimise, parts [any] to report)
ChunkLoss = Callable[[Tensor, slice], tuple[Tensor, Tensor]]


def chunked_head_loss(hidden: Tensor, weight: Tensor, bias: Tensor | None, loss_of: ChunkLoss, chunk: int = 256) -> tuple[Tensor, Tensor]:
    """Sums ``loss_of`` over chunks of ``chunk`` positions of ``hidden @ weight.T + bias``.

    ``hidden`` is ``[positions, width]``, ``weight`` ``[vocab, width]``, ``bias`` ``[vocab]`` or None. Returns the sum of
    the scalars, with gradients for all three, and the sum of the parts, without. Exact: the same as one chunk, up to
    the order of floating-point sums. Raises ValueError for ``chunk < 1`` or hidden states that are not a matrix.
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; expected at least one position")
    if hidden.dim() != 2:
        raise ValueError(f"hidden states have shape {list(hidden.shape)}; expected [positions, width]")
    return _ChunkedHead.apply(hidden, weight, bias, loss_of, chunk)


class _ChunkedHead(torch.autograd.Function):
    """Computes the gradients in the forward pass, while a chunk's logits are there; backward only scales them."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, loss_of: ChunkLoss, chunk: int) -> tuple[Tensor, Tensor]:
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        device = hidden.device.type
        computed = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        head = weight.detach().to(computed)
        offset = None if bias is None else bias.detach().to(computed)
        gradients = [
            torch.zeros_like(t) if wanted and t is not None else None
            for t, wanted in ((hidden, wants_hidden), (weight, wants_weight), (bias, wants_bias))
        ]
        total, parts = hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32)), None
        with torch.autocast(device, enabled=False):
            for start in range(0, len(hidden), chunk):
                where = slice(start, min(start + chunk, len(hidden)))
                piece = hidden[where].detach().to(computed)
                logits = functional.linear(piece, head, offset).requires_grad_(wants_hidden or wants_weight or wants_bias)
                with torch.enable_grad():
                    loss, shown = loss_of(logits, where)
                total += loss.detach()
                parts = shown.detach().clone() if parts is None else parts + shown.detach()
                if loss.requires_grad:
                    [slope] = torch.autograd.grad(loss, logits)
                    add_gradients(gradients, where, slope, piece, head)
                    del slope
                del logits, loss
        ctx.save_for_backward(*gradients)
        parts = hidden.new_zeros(0) if parts is None else parts
        ctx.mark_non_differentiable(parts)
        return total, parts

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, scale: Tensor, _parts: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if g is None else g * scale.to(g.dtype) for g in ctx.saved_tensors), None, None


def add_gradients(gradients: list[Tensor | None], where: slice, slope: Tensor, piece: Tensor, head: Tensor) -> None:
    """Adds what the slope of a chunk's logits ``[n, vocab]`` means for the hidden states, the head and its bias."""
    for_hidden, for_head, for_bias = gradients
    if for_hidden is not None:
        for_hidden[where] = (slope @ head).to(for_hidden.dtype)
    if for_head is not None:
        if for_head.dtype == slope.dtype:
            for_head.addmm_(slope.t(), piece)  # in place: a product of its own would be a second head
        else:
            for_head += slope.t() @ piece
    if for_bias is not None:
        for_bias += slope.sum(dim=0)
