"""What training rounds to is what the file holds, as the package gguf reads it, and what llama.cpp rounds inputs to."""

import gguf
import numpy as np
import pytest
import torch

from firsttoken.backends.gguf.rounding import BlockRounding
from firsttoken.backends.registry import find_backend
from firsttoken.prove.blocks import round_tokens_in_blocks


@pytest.mark.parametrize(("precision", "kind"), [("int8", "Q8_0"), ("int4", "Q4_0")])
def test_weights_are_the_files(precision, kind):
    weight = np.random.default_rng(1).normal(0, 0.1, (48, 96)).astype(np.float32)
    weight[3, :32] = 0
    kind = gguf.GGMLQuantizationType[kind]
    wanted = gguf.quants.dequantize(gguf.quants.quantize(weight, kind), kind)
    rounding = find_backend("gguf-llamacpp").weight_rounding(precision, "linear", 32)
    assert np.array_equal(rounding.rounded(torch.from_numpy(weight)).numpy(), wanted)


def test_inputs_are_llama_cpps():
    states = np.random.default_rng(2).normal(0, 3, (5, 64)).astype(np.float32)
    wanted = round_tokens_in_blocks(states, 32, lambda values: values.astype(np.float16).astype(np.float32), lambda scale: scale)
    got = BlockRounding("states").rounded(torch.from_numpy(states)).numpy()
    assert np.abs(got - wanted).max() <= 1e-6
