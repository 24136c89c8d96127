"""What this machine's onnxruntime computes a MatMulNBits in: asked of the kernel itself, which falls back to FP32 without a word where a CPU lacks an instruction."""

from functools import cache

import numpy as np

from firsttoken.backends.onnx.graph import IR_VERSION, MICROSOFT, OPSET, Graph
from firsttoken.backends.onnx.quantize import dequantize_blocks, quantize_blocks

COLUMNS, ROWS, TOKENS = 512, 16, 3


@cache
def computed_in(bits: int, block: int, accuracy_level: int) -> str:
    """ "int8" where activations are rounded to int8 block by block, "fp32" where they are not, "other" for a third thing."""
    import onnxruntime

    from firsttoken.backends.onnx.session import options

    generator = np.random.default_rng(bits * block)
    weight = generator.standard_normal((ROWS, COLUMNS), np.float32)
    states = generator.standard_normal((TOKENS, COLUMNS), np.float32)
    states[:, ::block] *= 20  # what makes rounding show
    stored, scales = quantize_blocks(weight, "int8" if bits == 8 else "int4", block, block)
    session = onnxruntime.InferenceSession(
        one_node(stored, scales, bits, block, accuracy_level), options(1), providers=["CPUExecutionProvider"]
    )
    [found] = session.run(None, {"x": states})
    matrix = dequantize_blocks(stored, scales, bits, COLUMNS)
    distances = {
        name: float(np.abs(found - given @ matrix.T).max()) for name, given in (("fp32", states), ("int8", rounded(states, block)))
    }
    apart = float(np.abs((states - rounded(states, block)) @ matrix.T).max())
    nearest = min(distances, key=lambda name: distances[name])
    return nearest if distances[nearest] < apart / 20 else "other"


def rounded(states: np.ndarray, block: int) -> np.ndarray:
    grouped = states.reshape(len(states), -1, block)
    scale = np.abs(grouped).max(-1, keepdims=True) / np.float32(127)
    return (np.rint(grouped / scale) * scale).reshape(states.shape)


def one_node(stored: np.ndarray, scales: np.ndarray, bits: int, block: int, accuracy_level: int) -> bytes:
    """A model of one layer, ``x [tokens, COLUMNS]`` to ``y``."""
    from onnx import helper

    graph = Graph("")
    graph.input("x", "float32", ["tokens", COLUMNS])
    graph.output("y", "float32", ["tokens", ROWS])
    given = ["x", graph.constant(stored, "uint8", "w"), graph.constant(scales, "float32", "s")]
    graph.node_of(
        "MatMulNBits", given, ["y"], "layer", MICROSOFT, K=COLUMNS, N=ROWS, bits=bits, block_size=block, accuracy_level=accuracy_level
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph.finish("kernel"), opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()
