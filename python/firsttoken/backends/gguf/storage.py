"""A plan's precisions as GGUF's storage types, and rows of weights as their blocks.

Rounding is the package gguf's, llama.cpp's own in Python. Integers that were chosen before (GPTQ, a checkpoint's own) are kept, which rounding to
the largest weight would not: their scale becomes the block's, in float16.
"""

from types import MappingProxyType

import numpy as np

from firsttoken.errors import FirstTokenError

TYPES = MappingProxyType({"fp32": "F32", "fp16": "F16", "int8": "Q8_0", "int4": "Q4_0"})
PRECISIONS = MappingProxyType({kind: precision for precision, kind in TYPES.items()})
BLOCK = 32  # columns that share a scale in Q8_0 and Q4_0
LARGEST_HALF = 65504.0


def stored_rows(rows: np.ndarray, precision: str, scales: np.ndarray | None, name: str) -> np.ndarray:
    """The bytes uint8 ``[rows, bytes of a row]`` of float32 ``[rows, columns]``; ``scales`` ``[rows, groups]`` where they are integers times them already.

    Raises `FirstTokenError` for a weight that does not fit float16; ``name`` is the layer's.
    """
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    if precision == "fp32":
        return np.ascontiguousarray(rows, np.float32).view(np.uint8)
    if precision == "fp16":
        largest = float(np.abs(rows).max(initial=0))
        if largest > LARGEST_HALF:
            raise FirstTokenError(f"{name}: weight {largest:g} does not fit FP16 (largest 65504); give this layer int8 or fp32 in the plan")
        return np.ascontiguousarray(rows.astype(np.float16)).view(np.uint8)
    if scales is None:
        return quantize(np.ascontiguousarray(rows, np.float32), GGMLQuantizationType[TYPES[precision]])
    return kept_integers(rows, precision, scales)


def kept_integers(rows: np.ndarray, precision: str, scales: np.ndarray) -> np.ndarray:
    """Blocks of the integers that ``rows / scales`` are, each block with its group's scale."""
    blocks = rows.reshape(len(rows), -1, BLOCK)
    own = scales.repeat(blocks.shape[1] // scales.shape[1], axis=1)[:, :, None].astype(np.float32)
    lowest, highest = (-8, 7) if precision == "int4" else (-128, 127)
    integers = np.clip(np.rint(blocks / own), lowest, highest).astype(np.int8)
    scale = np.ascontiguousarray(own.astype(np.float16)).view(np.uint8)
    packed: np.ndarray = integers.view(np.uint8)
    if precision == "int4":
        shifted = (integers + 8).astype(np.uint8)
        packed = shifted[:, :, : BLOCK // 2] | (shifted[:, :, BLOCK // 2 :] << 4)  # a block's first half in the low bits
    return np.concatenate([scale, packed], axis=2).reshape(len(rows), -1)
