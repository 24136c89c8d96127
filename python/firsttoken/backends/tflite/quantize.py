"""Weight quantization, block of rows by block of rows, with the arithmetic of ai-edge-quantizer.

Symmetric, round half to even. int8: one scale per row, range -127..127 (``min_max_uniform_quantize``, channelwise).
int4: range -8..7, and either one float32 scale per row (channelwise), or one per group of a row's values, rounded to bfloat16's seven
mantissa bits and stored as float16 (blockwise). A test compares both with the quantizer's own output.
"""

import numpy as np

SMALLEST_BOUND = np.float32(1e-9)  # an all-zero row still needs a scale above zero


def quantize_int8(rows: np.ndarray, scales: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Quantizes float32 ``[rows, columns]`` to int8 of the same shape and float32 scales ``[rows]``: those given, or the largest weight's.

    Integers that were there before, which is what given scales mean, may be -128.
    """
    lowest = -127 if scales is None else -128
    if scales is None:
        bound = np.maximum(np.abs(rows.min(1)), np.abs(rows.max(1)))
        scales = (np.maximum(bound, SMALLEST_BOUND) / np.float32(127)).astype(np.float32)
    scaled = rows / scales[:, None]
    np.rint(scaled, out=scaled)
    np.clip(scaled, lowest, 127, out=scaled)
    return scaled.astype(np.int8), scales


def quantize_int4(rows: np.ndarray, group: int, scales: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Quantizes float32 ``[rows, columns]`` to packed int4 and scales ``[rows, columns / group]``: those given, or the largest weights'.

    Scales of groups are float16, of whole rows (``group`` is ``columns``) float32.

    Two values share a byte of the uint8 result ``[rows, columns / 2]``, the earlier one in the low half.
    """
    grouped = rows.reshape(rows.shape[0], -1, group)
    if scales is None:
        scales = np.maximum(np.abs(grouped).max(2), SMALLEST_BOUND) / np.float32(7)
    whole = group == rows.shape[1]
    divisor = scales.astype(np.float32)
    if not whole:
        divisor = np.maximum(
            round_to_bfloat16(scales).astype(np.float16).astype(np.float32), np.float32(6e-8)
        )  # the smallest float16 above zero
    values = np.clip(np.rint(grouped / divisor[:, :, None]), -8, 7).astype(np.int8).reshape(rows.shape).view(np.uint8)
    return (values[:, 0::2] & 0x0F) | (values[:, 1::2] << 4), divisor if whole else divisor.astype(np.float16)


def round_to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Rounds float32 to the nearest bfloat16 (ties to even) and returns it as float32."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)
