#!/usr/bin/env python3
"""Peak memory of choosing integers by GPTQ for layers of the shape of a 7B model: 4096 hidden, 11008 inside the MLP.

A checkpoint of two such layers with synthetic weights, in bfloat16, is written into the work folder (0.9 GB); another process calibrates it on 2,048
synthetic tokens, and its peak is what the kernel says of it. Layers after the second need no more, since one is in memory at a time.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from measure_process import MIB, arguments, publish, table

LIMIT = 6 << 30  # bytes
HIDDEN, INNER, HEADS, VOCAB = 4096, 11008, 32, 512
TOKENS, WINDOW = 2048, 512


def write_checkpoint(folder: Path, layers: int) -> None:
    """A Llama of that shape, one layer's tensors in memory at a time."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": layers,
        "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "vocab_size": VOCAB, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {f"self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in "qkvo"}
    shapes |= {"mlp.gate_proj": (INNER, HIDDEN), "mlp.up_proj": (INNER, HIDDEN), "mlp.down_proj": (HIDDEN, INNER)}
    names: dict[str, str] = {}
    for number in range(layers + 1):
        torch.manual_seed(number)
        if number == layers:
            tensors = {
                "model.embed_tokens.weight": torch.randn(VOCAB, HIDDEN).bfloat16(),
                "model.norm.weight": torch.ones(HIDDEN).bfloat16(),
            }
        else:
            at = f"model.layers.{number}."
            tensors = {f"{at}{name}.weight": (torch.randn(shape) * 0.02).bfloat16() for name, shape in shapes.items()}
            tensors |= {f"{at}{name}_layernorm.weight": torch.ones(HIDDEN).bfloat16() for name in ("input", "post_attention")}
        save_file(tensors, folder / f"{number}.safetensors")
        names |= dict.fromkeys(tensors, f"{number}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def calibrate(folder: Path, integers: Path) -> None:
    """Chooses the integers of every layer, and prints the seconds and the peak of this process in bytes."""
    from firsttoken.calibration.blocks import Calibration
    from firsttoken.calibration.rounded import IntegerFiles
    from firsttoken.checkpoint import Checkpoint
    from firsttoken.decoder.walk import open_decoder, plan_layers

    begun = time.monotonic()
    checkpoint = Checkpoint(folder)
    decoder = open_decoder(checkpoint)
    wanted = {layer.name: (4, 128) for layer in plan_layers(decoder) if layer.kind == "linear" and layer.name.startswith("layers.")}
    windows = [torch.randint(0, VOCAB, (WINDOW,), generator=torch.Generator().manual_seed(n)) for n in range(TOKENS // WINDOW)]
    Calibration(checkpoint, decoder, wanted, IntegerFiles(integers)).run(windows)
    print(json.dumps({"seconds": time.monotonic() - begun, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10}))


def main():
    parser = arguments(__doc__)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--calibrate", nargs=2, type=Path, metavar=("CHECKPOINT", "INTEGERS"), help="(the process that is measured)")
    options = parser.parse_args()
    if options.calibrate:
        return calibrate(*options.calibrate)
    folder, integers = (
        options.work / "gptq-memory" / f"layers-{options.layers}",
        options.work / "gptq-memory" / f"integers-{time.time_ns()}",
    )
    if not folder.is_dir():
        write_checkpoint(folder, options.layers)
    command = [sys.executable, __file__, "--work", options.work, "--calibrate", folder, integers]
    found = json.loads(subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout)
    row = [options.layers, f"{HIDDEN} x {INNER}", f"{found['seconds']:.0f}", f"{found['peak'] / MIB:.0f}"]
    publish(options.work, "gptq_memory", [table(["layers", "shape", "seconds", "peak, MiB"], [row])], found)
    if found["peak"] > LIMIT:
        raise SystemExit(f"{found['peak'] / MIB:.0f} MiB are more than {LIMIT / MIB:.0f}")


if __name__ == "__main__":
    main()
