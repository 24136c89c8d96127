"""Blocks back to numbers: as llama.cpp's own package does, in portions."""

import gguf
import numpy as np
import pytest
from gguf_writer import HALVES, random_blocks

from firsttoken.errors import FirstTokenError
from firsttoken.gguf_file import blocks
from firsttoken.gguf_file.blocks import BLOCKS, NUMBERS, PLAIN, dequantized


def test_the_table_is_the_packages():
    for number, name in NUMBERS.items():
        assert gguf.GGMLQuantizationType(number).name == name
    for name, sizes in BLOCKS.items():
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]] == sizes


@pytest.mark.parametrize("kind", BLOCKS)
def test_values_are_bit_for_bit_the_packages(kind, monkeypatch):
    number = gguf.GGMLQuantizationType[kind]
    if kind in HALVES:
        stored = random_blocks(kind, 7, 768)
    else:
        stored = gguf.quants.quantize(np.random.default_rng(1).standard_normal((7, 768)).astype(np.float32), number)
    expected = gguf.quants.dequantize(stored, number).astype(np.float32)
    assert np.isfinite(expected).all() and expected.std() > 0
    monkeypatch.setattr(blocks, "PORTION_VALUES", 1000)  # cuts between the rows and inside them
    assert np.array_equal(dequantized(stored.tobytes(), kind).reshape(7, 768), expected)


def test_without_the_package_only_quantized_types_are_refused(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gguf", None)
    for kind in BLOCKS:
        raw = bytes(BLOCKS[kind][1])
        if kind in PLAIN:
            assert dequantized(raw, kind).tolist() == [0.0]
        else:
            with pytest.raises(FirstTokenError, match=rf"{kind} weights needs gguf.*pip install 'firsttoken\[gguf\]'"):
                dequantized(raw, kind)
