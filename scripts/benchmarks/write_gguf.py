#!/usr/bin/env python3
"""Writes a Qwen2 checkpoint as a GGUF in Q8_0, so that llama.cpp can run what the benchmarks run.

    scripts/benchmarks/write_gguf.py .work/benchmarks/checkpoints/qwen-0.5b .work/benchmarks/qwen-0.5b.gguf

Needs the package gguf (pip install gguf). The names are those of the GGUF specification and of the package's own tables.
"""

import argparse
import json
import os
from pathlib import Path

import gguf
from safetensors import safe_open


def write_sizes(writer: gguf.GGUFWriter, config: dict) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])


def write_tokenizer(writer: gguf.GGUFWriter, folder: Path, size: int) -> None:
    """Byte-level BPE, as a tokenizer.json has it; numbers that no token has are written as unused."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    texts = [f"[unused {number}]" for number in range(size)]
    kinds = [gguf.TokenType.UNUSED] * size
    for text, number in tokenizer["model"]["vocab"].items():
        texts[number], kinds[number] = text, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        texts[added["id"]], kinds[added["id"]] = added["content"], gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in tokenizer["model"]["merges"]])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    config = json.loads((options.checkpoint / "config.json").read_text())
    if config["model_type"] != "qwen2":
        raise SystemExit(f"{options.checkpoint}: a {config['model_type']}; this writes qwen2 alone")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config["num_hidden_layers"])
    partial = options.output.with_name(options.output.name + ".partial")
    writer = gguf.GGUFWriter(partial, "qwen2")
    write_sizes(writer, config)
    write_tokenizer(writer, options.checkpoint, config["vocab_size"])
    with safe_open(options.checkpoint / "model.safetensors", "pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118  it is no dictionary
            values = tensors.get_tensor(name).float().numpy()
            kind = gguf.GGMLQuantizationType.Q8_0 if values.ndim == 2 else gguf.GGMLQuantizationType.F32
            data = gguf.quants.quantize(values, kind) if values.ndim == 2 else values
            writer.add_tensor(names.get_name(name, (".weight", ".bias")), data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(partial, options.output)


if __name__ == "__main__":
    main()
