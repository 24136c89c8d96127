"""GPTQ: integers for one matrix, chosen so that what it gives on calibration inputs changes least (Frantar et al. 2022, arXiv 2210.17323).

Columns are rounded one after the other; what each loses is made up for by those that are still floats, as the inverse of the inputs'
second moments says. Before that every group's scale is searched for the least error weighted by how large its inputs are.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

DAMPING = (0.01, 0.1, 1.0, 10.0)  # of the mean second moment, added to all; the next where the matrix cannot be inverted
SHRINKS = tuple(0.45 + 0.02 * n for n in range(31))  # of the scale that reaches a group's largest weight
BLOCK = 128  # columns whose loss is spread over the others at once
SMALLEST_BOUND = 1e-9  # an all-zero group still needs a scale above zero
SMALLEST_INT4_SCALE = 6e-8  # the smallest float16 above zero


@dataclass(frozen=True)
class Integers:
    """``values`` int8 ``[rows, columns]`` times ``scales`` float32 ``[rows, groups]`` stand for the weight. ``damping``: what was needed."""

    values: Tensor
    scales: Tensor
    damping: float

    def weight(self) -> Tensor:
        """What they stand for, float32 ``[rows, columns]``."""
        return (self.values.float().unflatten(1, (self.scales.shape[1], -1)) * self.scales[:, :, None]).flatten(1)


def bounds(bits: int) -> tuple[int, int]:
    """The integers that both runtimes' kernels take: int8 without its lowest, which has no opposite, int4 with it."""
    most = 2 ** (bits - 1) - 1
    return (-most if bits == 8 else -most - 1), most


def storable(scales: Tensor) -> Tensor:
    """Scales ``[rows, groups]`` as files and kernels hold them: of groups bfloat16 (XNNPACK) that float16 holds too (.tflite), of whole rows float32."""
    return scales if scales.shape[1] == 1 else scales.bfloat16().half().float().clamp_min(SMALLEST_INT4_SCALE)


def best_scales(weight: Tensor, importance: Tensor, bits: int, group: int) -> Tensor:
    """Scales float32 ``[rows, groups]`` with the least squared error, weighted by ``importance [columns]``, among `SHRINKS`."""
    low, high = bounds(bits)
    grouped, weighed = weight.unflatten(1, (-1, group)), importance.reshape(1, -1, group)
    whole = grouped.abs().amax(2).clamp_min(SMALLEST_BOUND) / high
    best, least = whole, torch.full_like(whole, torch.inf)
    for shrink in SHRINKS:
        scales = storable(whole * shrink)
        rounded = (grouped / scales[:, :, None]).round_().clamp_(low, high).mul_(scales[:, :, None])
        error = (rounded.sub_(grouped).square_() * weighed).sum(2)
        best, least = torch.where(error < least, scales, best), torch.minimum(error, least)
    return best


def inverse_root(moments: Tensor, silent: Tensor, order: Tensor) -> tuple[Tensor, float]:
    """The upper Cholesky factor, float32, of the inverse of ``moments`` (symmetric, ``[columns, columns]``) in ``order``, and the damping that it took.

    ``silent`` columns count as if of moment 1. It is computed in float64, two matrices of it in memory at a time. Raises `ArithmeticError`
    where even the strongest damping leaves it singular, as NaN does.
    """
    for damping in DAMPING:
        matrix = moments.index_select(0, order).index_select(1, order).double()
        matrix.diagonal().add_(silent[order].double())
        matrix.diagonal().add_(damping * float(matrix.diagonal().mean()))
        matrix, failed = torch.linalg.cholesky_ex(matrix)
        if not failed:
            matrix = torch.cholesky_inverse(matrix)
            matrix, failed = torch.linalg.cholesky_ex(matrix, upper=True)
            matrix = matrix.float()
            if not failed and torch.isfinite(matrix).all():
                return matrix, damping
    raise ArithmeticError(f"cannot be inverted, even with {DAMPING[-1]:g} times its mean added to the diagonal")


def gptq(weight: Tensor, moments: Tensor, bits: int, group: int) -> Integers:
    """Integers of ``bits`` (4 or 8) for ``weight`` float32 ``[rows, columns]``, one scale for ``group`` columns of a row.

    ``moments`` is the sum over calibration tokens of ``x x^T``, ``[columns, columns]``. Columns go in the order of their inputs' size, the
    largest first. Inputs that were always 0 say nothing: their weights are rounded to the nearest. Raises `ArithmeticError`.
    """
    low, high = bounds(bits)
    diagonal = moments.diagonal()
    silent = diagonal == 0
    importance = diagonal.float()
    scales = best_scales(weight, importance if bool(importance.any()) else torch.ones_like(importance), bits, group)
    order = torch.argsort(diagonal.masked_fill(silent, -1), descending=True, stable=True)
    root, damping = inverse_root(moments, silent, order)
    left, column_scales = weight[:, order].clone(), scales.repeat_interleave(group, 1)[:, order]
    values = torch.empty_like(left)
    for begin in range(0, left.shape[1], BLOCK):
        end = min(begin + BLOCK, left.shape[1])
        lost = torch.empty(len(left), end - begin)
        for column in range(begin, end):
            scale = column_scales[:, column]
            values[:, column] = (left[:, column] / scale).round_().clamp_(low, high)
            error = (left[:, column] - values[:, column] * scale) / root[column, column]
            left[:, column:end].sub_(torch.outer(error, root[column, column:end]))
            lost[:, column - begin] = error
        left[:, end:].addmm_(lost, root[begin:end, end:], alpha=-1)
    found = torch.empty_like(values)
    found[:, order] = values
    return Integers(found.to(torch.int8), scales, damping)
