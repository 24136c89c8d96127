"""GGUF's arithmetic for the proof's twin, from the formats' definitions (ggml-quants.c): blocks of neighbouring values that share a scale in float16.

Q8_0 divides by the largest value over 127; Q4_0 by the largest value, with its sign, over -8, so that it becomes the lowest of 16 integers. What is
multiplied with either is rounded as Q8_0 is, for each token as it comes.
"""

from collections.abc import Callable

import numpy as np

Half = Callable[[np.ndarray], np.ndarray]


def round_blocks(matrix: np.ndarray, precision: str, size: int, half: Half, scales: np.ndarray | None = None) -> np.ndarray:
    """A weight float32 ``[rows, columns]`` as blocks of ``size`` columns hold it, ``half`` rounding to float16; ``scales`` ``[rows, groups]`` where
    it is integers times them already."""
    blocks = matrix.reshape(len(matrix), -1, size)
    if scales is not None:
        scale: np.ndarray = scales.repeat(blocks.shape[1] // scales.shape[1], axis=1)[:, :, None].astype(np.float32)
        lowest, highest = (-8, 7) if precision == "int4" else (-128, 127)
        return (np.clip(np.rint(blocks / scale), lowest, highest) * half(scale)).reshape(matrix.shape).astype(np.float32)
    integers: np.ndarray
    if precision == "int8":
        scale = np.abs(blocks).max(2, keepdims=True) / np.float32(127)
        scaled = blocks * reciprocal(scale)
        integers = np.sign(scaled) * np.floor(np.abs(scaled) + np.float32(0.5))
    else:
        place = np.abs(blocks).argmax(2)[:, :, None]
        scale = np.take_along_axis(blocks, place, 2) / np.float32(-8)
        integers = np.clip(np.floor(blocks * reciprocal(scale) + np.float32(8.5)), 0, 15) - 8
    return (integers * half(scale)).reshape(matrix.shape).astype(np.float32)


def round_tokens_in_blocks(states: np.ndarray, size: int, half: Half, noise: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Activations float32 ``[..., columns]`` rounded to int8, a scale for ``size`` of each token's; ``noise`` puts the scales' own rounding off."""
    blocks = states.reshape(*states.shape[:-1], -1, size)
    scale = np.abs(blocks).max(-1, keepdims=True) / np.float32(127)
    return (np.rint(blocks * noise(reciprocal(scale))) * half(scale)).reshape(states.shape).astype(np.float32)


def reciprocal(scale: np.ndarray) -> np.ndarray:
    return np.where(scale == 0, np.float32(0), np.float32(1) / np.where(scale == 0, np.float32(1), scale)).astype(np.float32)
