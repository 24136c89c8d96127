"""Writes tests/quantized/auto_gptq.safetensors: small weights packed by AutoGPTQ's own class, and hashes of what it makes of them.

AutoGPTQ cannot be installed beside our transformers, but one file of its wheel can be run: pip download --no-deps auto-gptq==0.7.1, unzip it, then
python scripts/gptq_fixtures.py FOLDER. With a checkpoint folder and an output folder behind it, that checkpoint's layers are packed, in groups of 32.
"""

import hashlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

OUTPUT = Path(__file__).parents[1] / "tests/quantized/auto_gptq.safetensors"
ROWS, COLUMNS = 32, 64
# name: bits, group, whether zero points differ, whether columns are in the order of their activations
CASES = {"int4-g32": (4, 32, False, False), "int8-g32": (8, 32, False, False), "int4-row": (4, -1, False, False), "int8-row": (8, -1, False, False),
         "int4-shifted": (4, 32, True, False), "int4-act-order": (4, 32, False, True)}  # fmt: skip


def packed(library, weight: torch.Tensor, bits: int, group: int, shifted: bool = False, act_order: bool = False):
    """A float16 weight ``[rows, columns]`` packed by AutoGPTQ's class, which also multiplies by it."""
    rows, columns = weight.shape
    layer = library.QuantLinear(bits, group, columns, rows, bias=False)
    size = layer.group_size
    order = torch.randperm(columns) if act_order else torch.arange(columns)
    groups = torch.empty(columns, dtype=torch.int32)
    groups[order] = (torch.arange(columns) // size).int()
    scales, zeros = torch.empty(rows, columns // size), torch.full((rows, columns // size), float(2 ** (bits - 1)))
    for number in range(columns // size):
        part = weight[:, groups == number].float()
        if shifted:
            low, high = part.amin(1).clamp_max(0), part.amax(1).clamp_min(0)
            scales[:, number] = (high - low) / (2**bits - 1)
            zeros[:, number] = (-low / scales[:, number]).round().clamp_min(1)
        else:
            scales[:, number] = 2 * part.abs().amax(1) / (2**bits - 1)
    scales = scales.half().float()
    most = 2**bits - 1
    wide, middle = scales[:, groups.long()], zeros[:, groups.long()]
    linear = nn.Linear(columns, rows, bias=False)
    linear.weight.data = (((weight.float() / wide + middle).round().clamp(0, most) - middle) * wide).half()
    layer.pack(linear, scales.half(), zeros.clone(), groups)
    return layer


def tensors(layer, stem: str) -> dict[str, torch.Tensor]:
    return {f"{stem}.{name}": getattr(layer, name).contiguous() for name in ("qweight", "qzeros", "scales", "g_idx")}


def pack_checkpoint(library, source: Path, output: Path) -> None:
    shutil.copytree(source, output)
    found = {}
    for name, weight in load_file(source / "model.safetensors").items():
        if weight.ndim == 2 and "embed_tokens" not in name and "lm_head" not in name:
            found |= tensors(packed(library, weight.half(), 4, 32), name.removesuffix(".weight"))
        else:
            found[name] = weight
    save_file(found, output / "model.safetensors", {"format": "pt"})
    config = json.loads((output / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": False}
    (output / "config.json").write_text(json.dumps(config, indent=1))


def main() -> None:
    folder, *more = map(Path, sys.argv[1:])
    spec = importlib.util.spec_from_file_location("qlinear_cuda", folder / "auto_gptq/nn_modules/qlinear/qlinear_cuda.py")
    assert spec is not None and spec.loader is not None, f"{folder} holds no unpacked wheel of auto-gptq"
    library = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(library)
    torch.manual_seed(0)
    if more:
        pack_checkpoint(library, *more)
        return
    found, expected = {}, {}
    for case, (bits, group, shifted, act_order) in CASES.items():
        layer = packed(library, torch.randn(ROWS, COLUMNS).half() * 0.05, bits, group, shifted, act_order)
        weight = layer(torch.eye(COLUMNS).half()).t().contiguous()
        found |= tensors(layer, case)
        expected[case] = hashlib.sha256(weight.numpy().tobytes()).hexdigest()
    save_file(found, OUTPUT, expected)


if __name__ == "__main__":
    main()
