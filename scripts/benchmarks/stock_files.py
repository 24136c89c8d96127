#!/usr/bin/env python3
"""Files as other exporters make them, of any local checkpoint and offline: litert-torch's export_hf, ExecuTorch's export_llm.

    python scripts/benchmarks/stock_files.py litertlm CHECKPOINT FILE --prefill 16,128 --cache-length 512
    python scripts/benchmarks/stock_files.py pte CHECKPOINT FILE --cache-length 512 --quantize 8da4w --group-size 32

export_hf imports TensorFlow for one module, the schema of .tflite, that LiteRT's own wheel has too: where TensorFlow is not installed, that one is
given in its place. export_llm takes Meta's form of a checkpoint (consolidated.pth and params.json) and downloads one where none is named; the
form is written here, of models of the Llama and Qwen2 classes: other names, the rest as it is, since ``use_hf_rope`` takes Hugging Face's order of
rotary halves and ``attention_qkv_bias`` the biases.
"""

import argparse
import importlib.machinery
import json
import shutil
import subprocess
import sys
import tempfile
import types
from importlib.util import find_spec
from pathlib import Path

NAMES = {
    "model.embed_tokens": "tok_embeddings", "model.norm": "norm", "model.layers": "layers", "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk", "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.down_proj": "feed_forward.w2", "mlp.up_proj": "feed_forward.w3",
    "lm_head": "output",
}  # fmt: skip
CLASSES = {"llama": False, "qwen2": True}  # model_type: whether queries, keys and values have biases


def write_meta_form(checkpoint: Path, folder: Path):
    """Writes consolidated.pth and params.json. Raises `SystemExit` for a model of another class, or scaled rotary positions."""
    import torch
    from safetensors.torch import load_file

    config = json.loads((checkpoint / "config.json").read_text())
    rotary = config.get("rope_parameters") or {}
    if config["model_type"] not in CLASSES or config.get("rope_scaling") or rotary.get("rope_type", "default") != "default":
        raise SystemExit(f"{checkpoint}: {config['model_type']}; expected one of {', '.join(CLASSES)} with plain rotary positions")
    state = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        for name, weight in load_file(path).items():
            for theirs, metas in NAMES.items():
                name = name.replace(theirs, metas)
            state[name] = weight
    state.setdefault("output.weight", state["tok_embeddings.weight"])
    torch.save(state, folder / "consolidated.pth")
    heads = config["num_attention_heads"]
    values = {
        "dim": config["hidden_size"], "n_layers": config["num_hidden_layers"], "n_heads": heads, "n_kv_heads": config.get("num_key_value_heads", heads),
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads, "vocab_size": config["vocab_size"], "hidden_dim": config["intermediate_size"],
        "norm_eps": config["rms_norm_eps"], "rope_theta": config.get("rope_theta") or rotary["rope_theta"], "use_hf_rope": True, "attention_qkv_bias": CLASSES[config["model_type"]],
    }  # fmt: skip
    (folder / "params.json").write_text(json.dumps(values, indent=1))


def export_pte(options: argparse.Namespace, work: Path):
    """Runs export_llm in a process of its own: XNNPACK with extended operators, custom SDPA, a KV cache of the whole context."""
    write_meta_form(options.checkpoint, work)
    settings = {
        "base.model_class": "llama3", "base.checkpoint": work / "consolidated.pth", "base.params": work / "params.json",
        "model.use_kv_cache": True, "model.use_sdpa_with_kv_cache": True, "model.dtype_override": "fp32",
        "backend.xnnpack.enabled": True, "backend.xnnpack.extended_ops": True,
        "export.max_seq_length": options.cache_length, "export.max_context_length": options.cache_length,
        "export.output_dir": work, "export.output_name": work / "model.pte", "hydra.run.dir": work / "hydra",
    }  # fmt: skip
    if options.quantize:
        settings |= {
            "quantization.qmode": options.quantize,
            "quantization.group_size": options.group_size,
            "quantization.embedding_quantize": '"8,0"',
        }
    command = [sys.executable, "-m", "executorch.extension.llm.export.export_llm", *(f"{key}={value}" for key, value in settings.items())]
    subprocess.run(command, cwd=work, check=True)
    shutil.move(work / "model.pte", options.file)


def export_litertlm(options: argparse.Namespace, work: Path):
    """Runs export_hf in this process."""
    if find_spec("tensorflow") is None:
        stand_in_for_tensorflow()
    from litert_torch.generative.export_hf import export

    export.export(
        model=str(options.checkpoint),
        output_dir=str(work / "out"),
        cache_length=options.cache_length,
        quantization_recipe=options.recipe or None,
        **(
            {"enable_dynamic_shape": True}
            if options.dynamic
            else {"prefill_lengths": [int(length) for length in options.prefill.split(",")]}
        ),
    )
    shutil.move(work / "out" / "model.litertlm", options.file)


def stand_in_for_tensorflow():
    """Puts LiteRT's own ``schema_py_generated`` where export_hf looks for TensorFlow's, which is generated from the same schema."""
    from ai_edge_litert import schema_py_generated

    for name in ("tensorflow", "tensorflow.lite", "tensorflow.lite.python"):
        module = sys.modules[name] = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.__path__ = []
    sys.modules["tensorflow.lite.python.schema_py_generated"] = schema_py_generated
    sys.modules["tensorflow.lite.python"].schema_py_generated = schema_py_generated


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=("litertlm", "pte"))
    parser.add_argument("checkpoint", type=lambda text: Path(text).absolute())
    parser.add_argument("file", type=lambda text: Path(text).absolute())
    parser.add_argument("--cache-length", type=int, default=1280)
    parser.add_argument(
        "--prefill", default="128,512", metavar="N,N", help=".litertlm: lengths of the static prefill graphs (default: 128,512)"
    )
    parser.add_argument("--dynamic", action="store_true", help=".litertlm: lengths of run time; export_hf does it for few models")
    parser.add_argument(
        "--recipe", default="dynamic_wi8_afp32", help=".litertlm: quantization recipe; empty for FP32 (default: its own INT8)"
    )
    parser.add_argument("--quantize", metavar="MODE", help=".pte: 8da4w; leave it out for FP32")
    parser.add_argument("--group-size", type=int, default=32, help=".pte: weights that share a scale (default: 32)")
    options = parser.parse_args()
    options.file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="firsttoken-stock-", dir=options.file.parent) as work:
        {"litertlm": export_litertlm, "pte": export_pte}[options.form](options, Path(work))


if __name__ == "__main__":
    main()
