"""Weights in blocks of a row's neighbours, as onnxruntime's MatMulNBits and GatherBlockQuantized take them.

Around zero, ties to even, float32 scales: an int8 block holds -127 to 127; of an int4 group the largest weight is at -8, whatever its sign, so that
all 16 numbers are used (its scale may be negative; llama.cpp's Q4_0 does the same). Stored are unsigned numbers, 128 or 8 above; that zero point is the
operators' own where none is given.
"""

import numpy as np

from firsttoken.precisions import BLOCK, PRECISIONS

SMALLEST_BOUND = np.float32(1e-9)  # an all-zero block still needs a scale above zero
SMALLEST_BLOCK, LARGEST_BLOCK = 16, 256  # that onnxruntime's kernels have


def block_of(precision: str, group: int, columns: int) -> int:
    """How many columns a block has where a layer of ``columns`` has one scale for ``group`` of them: a power of two that divides the group, 0 where there is none.

    Where the plan asks for no groups it is `BLOCK`: int8, and int4 with one scale a row, which every block of it then has."""
    if PRECISIONS[precision].scales != "group" or group == columns:
        return BLOCK
    block = min(LARGEST_BLOCK, group & -group)
    return block if block >= SMALLEST_BLOCK else 0


def blocks(columns: int, block: int) -> int:
    """How many blocks a row has, the last one perhaps not full."""
    return -(-columns // block)


def quantize_blocks(
    rows: np.ndarray, precision: str, block: int, group: int, given: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Quantizes float32 ``[rows, columns]`` to uint8 ``[rows, blocks, bytes of a block]`` and float32 scales ``[rows, blocks]``.

    One scale for ``group`` columns of an int4 layer, one a block of an int8 layer; or those ``given``, ``[rows, groups]``, whose integers may be the lowest. Two int4
    values share a byte, the earlier one in the low half.
    """
    bits = PRECISIONS[precision].bits
    most = (1 << (bits - 1)) - 1
    columns, count = rows.shape[1], blocks(rows.shape[1], block)
    padded = np.zeros((len(rows), count * block), np.float32)
    padded[:, :columns] = rows
    grouped = padded.reshape(len(rows), count, block)
    scales = scales_of(grouped, precision, block, group, columns, most) if given is None else spread(given, columns, block)
    least = -most if bits == 8 and given is None else -most - 1
    integers = np.clip(np.rint(grouped / scales[:, :, None]), least, most)
    stored = (integers + np.float32(most + 1)).astype(np.uint8)
    return (stored if bits == 8 else stored[:, :, 0::2] | (stored[:, :, 1::2] << 4)), scales


def scales_of(grouped: np.ndarray, precision: str, block: int, group: int, columns: int, most: int) -> np.ndarray:
    """The scale of every block of ``[rows, blocks, block]``: the largest weight's, over the group that it belongs to."""
    if PRECISIONS[precision].scales != "group":
        return np.maximum(np.abs(grouped).max(2), SMALLEST_BOUND) / np.float32(most)
    rows, count = grouped.shape[:2]
    each = count if group == columns else group // block
    together = grouped.reshape(rows, -1, each * block)
    largest = np.take_along_axis(together, np.abs(together).argmax(2)[:, :, None], axis=2)[:, :, 0]
    largest = np.where(np.abs(largest) < SMALLEST_BOUND, SMALLEST_BOUND, largest)
    return np.repeat(largest / np.float32(-most - 1), each, axis=1)


def spread(given: np.ndarray, columns: int, block: int) -> np.ndarray:
    """Scales ``[rows, groups]`` for every block, float32 ``[rows, blocks]``."""
    count, groups = blocks(columns, block), given.shape[1]
    each = count if groups == 1 else count // groups
    return np.repeat(given.astype(np.float32), each, axis=1)


def dequantize_blocks(stored: np.ndarray, scales: np.ndarray, bits: int, columns: int) -> np.ndarray:
    """What stored integers stand for, float32 ``[rows, columns]``; shapes as in `quantize_blocks`."""
    if bits == 4:
        stored = np.stack([stored & 0x0F, stored >> 4], axis=-1).reshape(*stored.shape[:2], -1)
    values = (stored.astype(np.float32) - np.float32(1 << (bits - 1))) * scales[:, :, None]
    return values.reshape(len(stored), -1)[:, :columns]
