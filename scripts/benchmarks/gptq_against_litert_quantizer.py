#!/usr/bin/env python3
"""Our GPTQ against litert-quantizer's (ai-edge-quantizer's successor): the same layers of the demo checkpoint, the same second moments.

The error is what a layer's outputs on the calibration text lose, ``|X W^T - X Q^T| / |X W^T|``. litert-quantizer wants packages of its own, so it
goes into a folder of the work folder without its dependencies, of which firsttoken's tests have those that its GPTQ imports.
"""

import subprocess
import sys

import numpy as np
import torch
from measure_process import arguments, publish, table

from firsttoken.calibration.blocks import Moments, watch
from firsttoken.calibration.gptq import gptq
from firsttoken.calibration.text import read_text, windows_of
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.demo import checkpoint_path
from firsttoken.tokenizer import Tokenizer

ORACLE = "litert-quantizer==0.11.0"
WINDOWS = 4  # of 512 tokens
LAYERS = ("attention.q", "attention.v", "attention.output", "mlp.up", "mlp.down")
SHAPES = ((4, "row"), (4, 32), (4, 128), (8, "row"))


def theirs(weight: np.ndarray, moments: np.ndarray, bits: int, group: int | str) -> np.ndarray:
    """The weight as litert-quantizer's GPTQ has it, float32 ``[rows, columns]``."""
    from litert_quantizer import qtyping
    from litert_quantizer.algorithms.uniform_quantize import gptq as oracle
    from litert_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor

    granularity = qtyping.QuantGranularity("CHANNELWISE" if group == "row" else f"BLOCKWISE_{group}")
    config = qtyping.TensorQuantizationConfig(num_bits=bits, symmetric=True, granularity=granularity)
    operator = qtyping.OpInfo(
        op=qtyping.OperatorT(), op_name=qtyping.TFLOperationName.FULLY_CONNECTED, subgraph_op_index=-1,
        op_quant_config=qtyping.OpQuantizationConfig(weight_tensor_config=config),
    )  # fmt: skip
    found = oracle.get_tensor_quant_params(
        operator, config, weight, {"activation_tensor_qsv": {"hessian": moments.copy(), "num_samples": 1}}
    )
    return np.asarray(uniform_quantize_tensor.uniform_dequantize(found.quantized_data, found), np.float32).reshape(weight.shape)


def lost(weight: np.ndarray, kept: np.ndarray, moments: np.ndarray) -> float:
    """What the outputs lose, of their own size, by the inputs' second moments."""
    off, whole = (float(np.einsum("ij,jk,ik->", rows, moments, rows, optimize=True)) for rows in (kept - weight, weight))
    return float(np.sqrt(off / whole))


def main():
    options = arguments(__doc__).parse_args()
    folder = options.work / "litert-quantizer"
    if not folder.is_dir():
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), ORACLE], check=True)
    sys.path.append(str(folder))
    checkpoint = Checkpoint(checkpoint_path())
    decoder, wanted = open_decoder(checkpoint), [f"layers.{n}.{name}" for n in (0, 3) for name in LAYERS]
    windows = [torch.from_numpy(window) for window in windows_of(read_text(None), Tokenizer(checkpoint.folder))[:WINDOWS]]
    seen = Moments(frozenset(wanted))
    watch(checkpoint, decoder, windows, seen)
    rows, data = [], {}
    for layer in [layer for layer in plan_layers(decoder) if layer.name in wanted]:
        weight, moments = checkpoint.matrix(layer.matrix[0]), seen.of(layer.name).double().numpy()
        for bits, group in SHAPES:
            found = gptq(torch.from_numpy(weight.copy()), seen.of(layer.name), bits, weight.shape[1] if group == "row" else group)
            ours, other = lost(weight, found.weight().numpy(), moments), lost(weight, theirs(weight, moments, bits, group), moments)
            rows.append([layer.name, f"int{bits}/{group}", f"{ours:.4f}", f"{other:.4f}", f"{ours / other:.2f}"])
            data[f"{layer.name} int{bits}/{group}"] = {"ours": ours, "litert-quantizer": other}
    publish(options.work, "gptq_against_litert_quantizer", [table(["layer", "precision", "ours", "litert-quantizer", "ratio"], rows)], data)
    worst = max(data, key=lambda name: data[name]["ours"] / data[name]["litert-quantizer"])
    if data[worst]["ours"] > data[worst]["litert-quantizer"]:
        raise SystemExit(f"{worst}: ours loses more than litert-quantizer's: {data[worst]}")


if __name__ == "__main__":
    main()
