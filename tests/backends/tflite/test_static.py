"""Layers between integers whose scales are known beforehand: the written file, run by TFLite's own kernels, against PyTorch's quantized arithmetic."""

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch.ao.quantization import MinMaxObserver

from firsttoken.backends.tflite.graph import Graph, Type
from firsttoken.backends.tflite.model_file import ModelFile
from firsttoken.backends.tflite.quantize import quantize_int8
from firsttoken.backends.tflite.static import grid, static_linear
from firsttoken.backends.tflite.weights import Weight
from firsttoken.bundle.integer_facts import Range, StaticLayer
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.demo import checkpoint_path
from firsttoken.prove.arithmetic import STEPS, round_static, scale_and_zero

KINDS = {
    "int8-static": (torch.qint8, torch.per_tensor_affine, -128, 127),
    "int16x8": (torch.qint32, torch.per_tensor_symmetric, -32767, 32767),
}


def observed(values: np.ndarray, precision: str) -> tuple[float, int]:
    """The scale and zero point that PyTorch takes for these values."""
    dtype, scheme, least, most = KINDS[precision]
    observer = MinMaxObserver(dtype=dtype, qscheme=scheme, quant_min=least, quant_max=most, eps=1e-12)
    observer(torch.from_numpy(values))
    scale, zero = observer.calculate_qparams()
    return float(scale), int(zero)


def covered(values: np.ndarray) -> Range:
    return Range(low=float(values.min()), high=float(values.max()), saturated=0, error=0)


@pytest.mark.parametrize("precision", STEPS)
@pytest.mark.parametrize("shift", [0.0, 1.5, -4.0, 7.0])
def test_scales_and_zero_points_are_pytorchs_and_the_twins(precision, shift):
    values = np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32) + np.float32(shift)
    ours = grid(covered(values), {"int8-static": "int8", "int16x8": "int16"}[precision])
    assert (ours.scale, ours.zero_point) == scale_and_zero(covered(values), STEPS[precision])
    scale, zero = observed(values, precision)
    assert (float(ours.scale), ours.zero_point) == (pytest.approx(scale, rel=1e-6), zero)


@pytest.mark.parametrize("precision", STEPS)
def test_a_layer_computes_what_pytorch_does(precision, tmp_path):
    """Input and product rounded by PyTorch, the weight's integers ours (held against ai-edge-quantizer elsewhere); what the range leaves out is cut off."""
    source = Checkpoint(checkpoint_path())
    layer = next(layer for layer in plan_layers(open_decoder(source)) if layer.name == "layers.1.mlp.up")
    x = np.random.default_rng(1).standard_normal((24, layer.matrix[1][1])).astype(np.float32) * 2 + np.float32(0.3)
    integers, scales = quantize_int8(source.matrix(layer.weight))
    weight, bias = integers * scales[:, None], np.linspace(-3, 3, len(scales)).astype(np.float32)
    given = Range(low=float(x.min()) / 2, high=float(x.max()) / 3, saturated=0, error=0)
    product = covered(x @ weight.T)
    path = tmp_path / "layer.tflite"
    file = ModelFile("one layer")
    held, graph = Weight(file, source, layer, "int8"), Graph(file, "once")
    into = graph.input("x", list(x.shape), Type.FLOAT32)
    facts = StaticLayer(layer=layer.name, precision=precision, method="min-max", input=given, output=product)
    graph.output("y", static_linear(graph, into, held.tensor(graph), graph.constant(bias), facts))
    graph.finish()
    file.write(path)
    runner = Interpreter(str(path), num_threads=1).get_signature_runner("once")
    found = runner(x=x)["y"]

    def rounded(values: np.ndarray, range: Range) -> np.ndarray:
        scale, zero = observed(np.array([range.low, range.high], np.float32), precision)
        _, _, least, most = KINDS[precision]
        return torch.fake_quantize_per_tensor_affine(torch.from_numpy(values), scale, zero, least, most).numpy()

    step = float(grid(product, {"int8-static": "int8", "int16x8": "int16"}[precision]).scale)
    expected = rounded((rounded(x, given).astype(np.float64) @ weight.T.astype(np.float64)).astype(np.float32), product) + bias
    off = np.abs(found - expected)
    assert off.max() < 1.01 * step and np.mean(off > 0.01 * step) < (0.002 if precision == "int8-static" else 0.4), (
        "a step, where a rounding ties"
    )
    assert np.sqrt(np.square(found - expected).mean()) < step * (0.05 if precision == "int8-static" else 0.65)
    twin = round_static(round_static(x, given, STEPS[precision]) @ weight.T, product, STEPS[precision]) + bias
    assert np.abs(found - twin).max() < 1.01 * step
    assert np.abs(expected - (x @ weight.T + bias)).max() > 20 * step, "what lies beyond the range is cut off"
