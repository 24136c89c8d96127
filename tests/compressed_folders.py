"""Checkpoint folders whose layers compressed-tensors' own compressors packed, and what they make of them again."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file


def scheme_of(bits: int, group: int | None, symmetric: bool = True, packed: bool = True):
    """The library's own description of how weights are stored."""
    pytest.importorskip("compressed_tensors", reason="run: pip install 'firsttoken[test]'")
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    how = {"strategy": "group", "group_size": group} if group else {"strategy": "channel"}
    weights = QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric, **how)
    return QuantizationScheme(targets=["Linear"], weights=weights, format="pack-quantized" if packed else "int-quantized")


def compressor_of(scheme):
    from compressed_tensors.compressors import BaseCompressor

    return BaseCompressor.get_value_from_registry(str(getattr(scheme.format, "value", scheme.format)))


def compressed(weight, scheme) -> tuple[dict, object]:
    """The tensors that stand for a weight ``[rows, columns]``, with scales of its own type, and the weight that the library reads from them."""
    import torch

    args = scheme.weights
    grouped = weight.float().unflatten(1, (-1, args.group_size or weight.shape[1]))
    if args.symmetric:
        scale, zero = grouped.abs().amax(2) * 2 / (2**args.num_bits - 1), None
    else:
        low, high = grouped.amin(2).clamp_max(0), grouped.amax(2).clamp_min(0)
        scale = (high - low) / (2**args.num_bits - 1)
        zero = (
            (-low / scale - 2 ** (args.num_bits - 1))
            .round()
            .clamp(-(2 ** (args.num_bits - 1)), 2 ** (args.num_bits - 1) - 1)
            .to(torch.int8)
        )
    given = {"weight": weight, "weight_scale": scale.to(weight.dtype), **({} if zero is None else {"weight_zero_point": zero})}
    found = compressor_of(scheme).compress(given, scheme)
    return found, compressor_of(scheme).decompress(dict(found), scheme)["weight"]


def compress_folder(source: Path, output: Path, scheme, dtype=None) -> dict:
    """Writes a copy of a checkpoint folder with its layers compressed; returns what the library reads of them, by name."""
    from compressed_tensors.quantization import QuantizationConfig

    shutil.copytree(source, output)
    tensors, weights = {}, {}
    for name, weight in load_file(source / "model.safetensors").items():
        if weight.ndim != 2 or "embed_tokens" in name or "lm_head" in name:
            tensors[name] = weight
            continue
        found, weights[name] = compressed(weight if dtype is None else weight.to(dtype), scheme)
        tensors |= {f"{name.removesuffix('weight')}{part}": value.contiguous() for part, value in found.items()}
    save_file(tensors, output / "model.safetensors", {"format": "pt"})
    said = QuantizationConfig(config_groups={"group_0": scheme}, format=scheme.format, ignore=["lm_head"], quantization_status="compressed")
    config = json.loads((output / "config.json").read_text())
    config["quantization_config"] = {**said.model_dump(mode="json"), "quant_method": "compressed-tensors"}
    (output / "config.json").write_text(json.dumps(config))
    return weights
