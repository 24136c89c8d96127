"""Weights in blocks: what onnxruntime's own kernels make of the stored integers is what they stand for, and the twin rounds to the same."""

import numpy as np
import onnxruntime
import pytest
import torch

from firsttoken.backends.onnx.graph import IR_VERSION, MICROSOFT, OPSET, Graph
from firsttoken.backends.onnx.kernel import computed_in
from firsttoken.backends.onnx.quantize import block_of, dequantize_blocks, quantize_blocks
from firsttoken.backends.onnx.rounding import BlockRounding
from firsttoken.backends.onnx.session import options
from firsttoken.precisions import PRECISIONS, WeightGrid
from firsttoken.prove import arithmetic

FORMS = [("int8", 96), ("int4", 32), ("int4", 64), ("int4", 96), ("int4", 192), ("int8", 100), ("int4", 100)]  # precision, and group or row


def weight(columns, rows=24):
    made = np.random.default_rng(5).standard_normal((rows, columns), np.float32) * np.logspace(-4, 2, rows, dtype=np.float32)[:, None]
    made[3] = 0
    made[4, :40] = 0  # a block without a scale of its own
    return made


def columns_of(group):
    return 192 if group in (32, 64, 96) else group


def gathered(stored, scales, bits, block):
    """The table as GatherBlockQuantized gives it."""
    from onnx import helper

    graph = Graph("")
    graph.input("x", "int64", [1, "n"])
    graph.output("y", "float32", [1, "n", "columns"])
    table = graph.constant(stored.reshape(len(stored), -1), "uint8", "w")
    given = [table, "x", graph.constant(scales, "float32", "s")]
    graph.node_of("GatherBlockQuantized", given, ["y"], "g", MICROSOFT, bits=bits, block_size=block, gather_axis=0, quantize_axis=1)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph.finish("g"), opset_imports=opsets, ir_version=IR_VERSION)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options(1), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.arange(len(stored))[None]})[0][0]


@pytest.mark.parametrize(("precision", "group"), FORMS)
def test_the_kernel_the_twin_and_training_read_the_same(precision, group):
    columns = columns_of(group)
    matrix, block = weight(columns), block_of(precision, group, columns)
    stored, scales = quantize_blocks(matrix, precision, block, group)
    bits = PRECISIONS[precision].bits
    own = dequantize_blocks(stored, scales, bits, columns)
    np.testing.assert_array_equal(gathered(stored, scales, bits, block)[:, :columns], own)
    twin = arithmetic.round_weight(matrix, precision, WeightGrid(float_blocks=True), group if precision == "int4" else columns)
    np.testing.assert_allclose(own, twin, rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(own, BlockRounding(precision, group).rounded(torch.from_numpy(matrix)).numpy())
    error = np.abs(own - matrix).max(1)
    assert (error <= np.abs(matrix).max(1) / (127 if bits == 8 else 7) * 0.9).all() and error[5:].all()


@pytest.mark.parametrize(("precision", "groups"), [("int8", 1), ("int4", 3), ("int4", 1)])
def test_given_scales_are_kept_and_so_is_the_lowest_integer(precision, groups):
    most = (1 << PRECISIONS[precision].bits - 1) - 1
    generator = np.random.default_rng(6)
    given = np.exp(generator.standard_normal((8, groups))).astype(np.float32)
    integers = generator.integers(-most - 1, most + 1, (8, 192))
    integers[:, ::40] = -most - 1
    matrix = (integers.reshape(8, groups, -1) * given[:, :, None]).reshape(8, 192).astype(np.float32)
    group = 192 // groups
    stored, scales = quantize_blocks(matrix, precision, block_of(precision, group, 192), group, given)
    np.testing.assert_array_equal(dequantize_blocks(stored, scales, PRECISIONS[precision].bits, 192), matrix)


@pytest.mark.parametrize(("group", "block"), [(32, 32), (64, 64), (96, 32), (48, 16), (512, 256), (1024, 32), (24, 0)])
def test_blocks_divide_groups(group, block):
    assert block_of("int4", group, 1024) == block and block_of("int8", group, 1024) == 32
    assert not block or arithmetic.block_of("int4", group, 1024) == block


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [16, 32, 256])
def test_the_kernel_computes_what_it_is_asked(bits, block):
    """On this machine; where a CPU lacks the instructions, audits say FP32."""
    assert computed_in(bits, block, 4) == "int8" and computed_in(bits, block, 1) == "fp32"


def test_the_twin_rounds_activations_as_the_kernel_does():
    states = np.random.default_rng(7).standard_normal((3, 100), np.float32)
    rounded = arithmetic.round_float_blocks(states, 32)
    assert rounded.shape == states.shape
    for begin in range(0, 100, 32):
        block, found = states[:, begin : begin + 32], rounded[:, begin : begin + 32]
        scale = np.abs(block).max(1, keepdims=True) / 127
        assert (np.abs(found - block) <= scale * 0.5001).all() and np.allclose(np.rint(found / scale), found / scale, atol=1e-3)
