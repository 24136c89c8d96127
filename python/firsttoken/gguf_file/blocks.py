"""GGUF's storage types: how many values a block holds in how many bytes, and blocks back to float32.

The arithmetic is the package gguf's, llama.cpp's own in Python; here is only which types are read, and in which portions.
"""

from types import MappingProxyType

import numpy as np

from firsttoken.extras import need

# type -> values of a block and its bytes
BLOCKS = MappingProxyType({
    "F32": (1, 4), "F16": (1, 2), "BF16": (1, 2),
    "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34),
    "Q2_K": (256, 84), "Q3_K": (256, 110), "Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210),
})  # fmt: skip
PLAIN = ("F32", "F16", "BF16")
LATTICES = MappingProxyType(
    {"Q4_0": "int4", "Q8_0": "int8"}
)  # whose blocks are integers times one scale each, which comes first, in float16
# numbers of ggml.h, also of types that are not read, so that a refusal can name them
NUMBERS = MappingProxyType({
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K",
    14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS",
    24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4",
})  # fmt: skip
PORTION_VALUES = 1 << 20  # dequantizing takes several times its result


def type_name(number: int) -> str:
    """The name of a storage type; of an unknown one its number."""
    return NUMBERS.get(number, f"type {number}")


def block_scales(raw: bytes, kind: str) -> np.ndarray:
    """The scale of each whole block of one of `LATTICES`, float32; of Q4_0 it is negative where the largest weight is positive."""
    blocks = np.frombuffer(raw, np.uint8).reshape(-1, BLOCKS[kind][1])
    return np.ascontiguousarray(blocks[:, :2]).view("<f2").reshape(-1).astype(np.float32)


def dequantized(raw: bytes, kind: str) -> np.ndarray:
    """Returns the values of whole blocks as float32, in one row; in portions, so that memory stays that of the result."""
    values, size = BLOCKS[kind]
    if kind == "F32":
        return np.frombuffer(raw, np.float32)
    if kind == "F16":
        return np.frombuffer(raw, np.float16).astype(np.float32)
    if kind == "BF16":
        return (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
    need("gguf", f"a GGUF file with {kind} weights")
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    blocks = np.frombuffer(raw, np.uint8).reshape(-1, size)
    found = np.empty((len(blocks), values), np.float32)
    portion = max(1, PORTION_VALUES // values)
    with np.errstate(over="ignore", invalid="ignore"):  # damaged scales; whoever reads the rows refuses what is not finite
        for start in range(0, len(blocks), portion):
            found[start : start + portion] = dequantize(blocks[start : start + portion], GGMLQuantizationType[kind])
    return found.reshape(-1)
