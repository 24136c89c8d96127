"""The twin's arithmetic of GGUF's blocks, against the package gguf bit for bit."""

import gguf
import numpy as np
import pytest

from firsttoken.prove.arithmetic import round_half
from firsttoken.prove.blocks import round_blocks, round_tokens_in_blocks

KINDS = {"int8": gguf.GGMLQuantizationType.Q8_0, "int4": gguf.GGMLQuantizationType.Q4_0}


def weights(rows: int = 24) -> np.ndarray:
    made = np.random.default_rng(3).standard_normal((rows, 96)).astype(np.float32) ** 3
    made[2, :32] = 0  # a block without a scale
    made[3, 40] = 1000
    made[4] *= 1e-6
    return made


@pytest.mark.parametrize("precision", KINDS)
def test_weights_are_those_of_the_package(precision):
    kind = KINDS[precision]
    expected = gguf.quants.dequantize(gguf.quants.quantize(weights(), kind), kind)
    assert np.array_equal(round_blocks(weights(), precision, 32, round_half), expected)


@pytest.mark.parametrize(("precision", "lowest"), [("int8", -128), ("int4", -8)])
def test_integers_that_were_there_stay(precision, lowest):
    scales = np.random.default_rng(1).uniform(0.01, 0.02, (24, 3)).astype(np.float16).astype(np.float32)
    integers = np.random.default_rng(2).integers(lowest, -lowest, (24, 96))
    given = (integers * scales.repeat(32, 1)).astype(np.float32)
    assert np.allclose(round_blocks(given, precision, 32, round_half, scales), given, rtol=1e-6)


def test_activations_are_rounded_as_q8_0():
    states = weights(5)
    rounded = round_tokens_in_blocks(states, 32, round_half, lambda scale: scale)
    expected = gguf.quants.dequantize(gguf.quants.quantize(states, KINDS["int8"]), KINDS["int8"])
    assert np.array_equal(rounded, expected)
