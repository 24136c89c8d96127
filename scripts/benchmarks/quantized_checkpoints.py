#!/usr/bin/env python3
"""KL divergence of kept integers: a checkpoint is quantized by other libraries, exported, and held against its own dequantized weights.

python scripts/benchmarks/quantized_checkpoints.py CHECKPOINT WORK [--targets …] [--cases …] needs the extra "test" (compressed-tensors, gguf).
Folders and bundles are written to WORK. Case "gptq" takes what scripts/gptq_fixtures.py wrote to WORK/gptq.
"""

import argparse
import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme
from safetensors.torch import load_file, save_file

from firsttoken.bundle.manifest import read_manifest
from firsttoken.errors import FirstTokenError, GateError
from firsttoken.pipeline import export

PACKED = {"int4-g32": (4, 32), "int4-row": (4, None), "int8-row": (8, None)}  # by compressed-tensors, scales in bfloat16
UNPACKED = ("Q4_0", "Q8_0")  # by gguf, saved as bfloat16 floats and float32
# case and plan: what keeps, and what rounds again
RUNS = [*((case, "as-stored") for case in (*PACKED, "gptq", "Q4_0")), ("int4-g32", "int8"), ("Q4_0", "int8"), ("Q8_0", "int8")]


def layers_of(folder: Path):
    for name, weight in load_file(folder / "model.safetensors").items():
        yield name, weight, weight.ndim == 2 and "embed_tokens" not in name and "lm_head" not in name


def pack(source: Path, output: Path, bits: int, group: int | None) -> None:
    how = {"strategy": "group", "group_size": group} if group else {"strategy": "channel"}
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(num_bits=bits, type="int", symmetric=True, **how))
    compressor, tensors = BaseCompressor.get_value_from_registry("pack-quantized"), {}
    for name, weight, layer in layers_of(source):
        if not layer:
            tensors[name] = weight
            continue
        scale = weight.float().unflatten(1, (-1, group or weight.shape[1])).abs().amax(2) * 2 / (2**bits - 1)
        found = compressor.compress({"weight": weight.bfloat16(), "weight_scale": scale.bfloat16()}, scheme)
        tensors |= {f"{name.removesuffix('weight')}{part}": value.contiguous() for part, value in found.items()}
    save_file(tensors, output / "model.safetensors", {"format": "pt"})
    said = QuantizationConfig(
        config_groups={"group_0": scheme}, format="pack-quantized", ignore=["lm_head"], quantization_status="compressed"
    )
    config = json.loads((output / "config.json").read_text())
    config["quantization_config"] = {**said.model_dump(mode="json"), "quant_method": "compressed-tensors"}
    (output / "config.json").write_text(json.dumps(config))


def unpacked(source: Path, output: Path, kind: str) -> None:
    number, tensors = gguf.GGMLQuantizationType[kind], {}
    for name, weight, layer in layers_of(source):
        tensors[name] = weight
        if layer:
            rounded = gguf.quants.dequantize(gguf.quants.quantize(weight.float().numpy(), number), number).astype(np.float32)
            tensors[name] = torch.from_numpy(rounded).to(torch.bfloat16 if kind == "Q4_0" else torch.float32)
    save_file(tensors, output / "model.safetensors", {"format": "pt"})


def made(source: Path, work: Path, case: str) -> Path:
    folder = work / case
    if not folder.is_dir() and case != "gptq":
        shutil.copytree(source, folder)
        if case in PACKED:
            pack(source, folder, *PACKED[case])
        else:
            unpacked(source, folder, case)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--targets", nargs="+", default=["tflite-xnnpack", "executorch-xnnpack"])
    parser.add_argument("--cases", nargs="+", default=sorted({case for case, _ in RUNS}))
    asked = parser.parse_args()
    for case, plan in RUNS:
        folder = made(asked.checkpoint, asked.work, case) if case in asked.cases else None
        if folder is None or not folder.is_dir():
            continue
        for target in asked.targets:
            said: list[str] = []
            try:
                [bundle] = export(folder, asked.work / "out", plan, (target,), force=True, witness=False, say=said.append)
            except GateError:
                bundle = asked.work / "out" / f"{target}.rejected"
            except FirstTokenError as error:
                print(f"{case}\t{plan}\t{target}\t{error}", flush=True)
                continue
            manifest = read_manifest(bundle)
            figures, size = manifest.need_proof().all, manifest.size(manifest.cpu) / 2**20
            print(f"{case}\t{plan}\t{target}\t{figures.mean_kld:.2e}\t{figures.same_top:.1%}\t{size:.1f} MiB", flush=True)
            print(*(f"    {line}" for line in said if line.startswith(target)), sep="\n", flush=True)


if __name__ == "__main__":
    main()
