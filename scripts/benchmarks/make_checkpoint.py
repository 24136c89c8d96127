#!/usr/bin/env python3
"""Makes checkpoints of real sizes with random weights, so that the benchmarks need no download.

Each has a byte-level BPE tokenizer made here from the Python standard library's sources and padded with unused tokens
to the model's vocabulary. Weights are written block by block, so that this needs little memory.

  qwen-0.5b   Qwen2.5-0.5B's shape: hidden 896, 24 layers, 14/2 heads, MLP 4864, vocabulary 151936, tied, q/k/v biases
  qwen-1.5b   Qwen2.5-1.5B's shape: hidden 1536, 28 layers, 12/2 heads, MLP 8960
  llama-0.5b  qwen-0.5b's sizes as a Llama without biases; also as consolidated.pth and params.json, which ExecuTorch's
              export_llm reads
  gemma3-1b   Gemma 3 1B's shape: hidden 1152, 26 layers, 22 of them with a window of 512, 4/1 heads, vocabulary 262144, tied
  olmo2-7b    OLMo 2 7B's shape: hidden 4096, 32 layers, 32 heads, MLP 11008, vocabulary 100352. These two only when named
  grown-0.5b  qwen-0.5b's sizes with trained weights: the demo checkpoint made wider and deeper (widened_checkpoint.py),
              with its tokenizer; for accuracy. Made only when it is named
"""

import argparse
import json
import os
import struct
import sysconfig
from pathlib import Path

import numpy as np
from measure_process import WORK

VOCABULARY = 151936
BPE_TOKENS = 8192
BLOCK = 1 << 22  # weights made at a time
END, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

SHAPES = {
    "qwen-0.5b": {"model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "intermediate_size": 4864},
    "qwen-1.5b": {"model_type": "qwen2", "hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "intermediate_size": 8960},
    "llama-0.5b": {"model_type": "llama", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "intermediate_size": 4864},
}  # fmt: skip
# Of other families: their tensors are those of transformers' class for the configuration.
OTHER_SHAPES = {
    "gemma3-1b": {
        "model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "hidden_size": 1152, "num_hidden_layers": 26, "num_attention_heads": 4,
        "num_key_value_heads": 1, "head_dim": 256, "intermediate_size": 6912, "vocab_size": 262144, "tie_word_embeddings": True,
        "query_pre_attn_scalar": 256, "sliding_window": 512, "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 32768,
        "layer_types": [("full" if n % 6 == 5 else "sliding") + "_attention" for n in range(26)],
    },
    "olmo2-7b": {
        "model_type": "olmo2", "architectures": ["Olmo2ForCausalLM"], "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "intermediate_size": 11008, "vocab_size": 100352, "tie_word_embeddings": False, "rope_theta": 500000.0,
        "max_position_embeddings": 4096,
    },
}  # fmt: skip
GROWN = "grown-0.5b"
COMMON = {
    "num_key_value_heads": 2, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": True, "hidden_act": "silu",
    "max_position_embeddings": 32768, "torch_dtype": "bfloat16", "bos_token_id": VOCABULARY - 3, "eos_token_id": VOCABULARY - 1,
}  # fmt: skip


def tensors(config: dict) -> dict[str, tuple[tuple[int, ...], float, float]]:
    """Returns name → shape, mean and deviation of every tensor."""
    if config["model_type"] not in ("qwen2", "llama"):
        return tensors_of_class(config)
    hidden, mlp = config["hidden_size"], config["intermediate_size"]
    head = hidden // config["num_attention_heads"]
    found = {"model.embed_tokens.weight": ((VOCABULARY, hidden), 0, 0.02), "model.norm.weight": ((hidden,), 1, 0.1)}
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}."
        found[layer + "input_layernorm.weight"] = found[layer + "post_attention_layernorm.weight"] = ((hidden,), 1, 0.1)
        for name, heads in (
            ("q", config["num_attention_heads"]),
            ("k", config["num_key_value_heads"]),
            ("v", config["num_key_value_heads"]),
        ):
            found[f"{layer}self_attn.{name}_proj.weight"] = ((heads * head, hidden), 0, 0.04)
            if config["model_type"] == "qwen2":
                found[f"{layer}self_attn.{name}_proj.bias"] = ((heads * head,), 0, 0.1)
        found[layer + "self_attn.o_proj.weight"] = ((hidden, hidden), 0, 0.02)
        found[layer + "mlp.gate_proj.weight"] = found[layer + "mlp.up_proj.weight"] = ((mlp, hidden), 0, 0.02)
        found[layer + "mlp.down_proj.weight"] = ((hidden, mlp), 0, 0.02)
    return found


def tensors_of_class(config: dict) -> dict[str, tuple[tuple[int, ...], float, float]]:
    """The same, as transformers' class for the configuration has them; norms begin at its own value."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    tied = {"lm_head.weight"} if config["tie_word_embeddings"] else set()
    less_one = config["model_type"].startswith("gemma")  # its norms' weights are stored less 1
    return {
        name: (tuple(tensor.shape), 1 - less_one if tensor.ndim == 1 else 0, 0.1 if tensor.ndim == 1 else 0.02)
        for name, tensor in model.state_dict().items()
        if name not in tied
    }


def write_weights(path: Path, config: dict, seed: int):
    """Writes normally distributed bfloat16 weights as one safetensors file."""
    wanted, header, position = tensors(config), {"__metadata__": {"format": "pt"}}, 0
    for name, (shape, _, _) in wanted.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(seed)
    with open(path, "wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for shape, mean, deviation in wanted.values():
            left = int(np.prod(shape))
            while left:
                block = random.standard_normal(min(left, BLOCK), dtype=np.float32) * np.float32(deviation) + np.float32(mean)
                bits = block.view(np.uint32)
                stream.write(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes())
                left -= len(block)


def write_tokenizer(folder: Path, size: int = VOCABULARY):
    """Trains a small byte-level BPE and pads its vocabulary with tokens that no text produces."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    small = Tokenizer(models.BPE())
    small.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=BPE_TOKENS, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    sources = sorted(str(p) for p in Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    small.train(sources, trainer)
    model = json.loads(small.to_str())["model"]
    vocabulary = dict(model["vocab"])
    for n in range(len(vocabulary), size - 3):
        vocabulary[f"<unused{n}>"] = n
    whole = Tokenizer(models.BPE(vocab=vocabulary, merges=[tuple(pair) for pair in model["merges"]]))
    whole.pre_tokenizer, whole.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    whole.add_special_tokens([AddedToken(t, special=True) for t in (END, TURN_START, TURN_END)])
    assert whole.get_vocab_size() == size
    whole.save(str(folder / "tokenizer.json"))
    facts = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": TURN_END,
        "pad_token": END,
        "add_bos_token": False,
        "chat_template": CHAT,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(facts, indent=1))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [size - 1, size - 3], "pad_token_id": size - 3}, indent=1))


def write_meta_form(folder: Path, config: dict):
    """Writes the same model as consolidated.pth and params.json, with Meta's names and its pairing of rotary halves."""
    import torch
    from safetensors.torch import load_file

    names = {
        "model.embed_tokens": "tok_embeddings", "model.norm": "norm", "model.layers": "layers", "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk", "self_attn.v_proj": "attention.wv",
        "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.down_proj": "feed_forward.w2", "mlp.up_proj": "feed_forward.w3",
    }  # fmt: skip
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    state = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if ".q_proj" in name or ".k_proj" in name:
            weight = weight.view(-1, 2, hidden // heads // 2, hidden).transpose(1, 2).reshape(weight.shape)
        for theirs, metas in names.items():
            name = name.replace(theirs, metas)
        state[name] = weight
    state["output.weight"] = state["tok_embeddings.weight"]
    torch.save(state, folder / "consolidated.pth")
    sizes = {
        "dim": hidden, "n_layers": config["num_hidden_layers"], "n_heads": heads, "n_kv_heads": config["num_key_value_heads"], "vocab_size": VOCABULARY,
        "hidden_dim": config["intermediate_size"], "norm_eps": config["rms_norm_eps"], "rope_theta": config["rope_theta"],
    }  # fmt: skip
    (folder / "params.json").write_text(json.dumps(sizes, indent=1))


def make(folder: Path, name: str, seed: int):
    """Makes one checkpoint folder; it appears under its name only when complete."""
    if name == GROWN:
        from widened_checkpoint import make_widened

        part = folder.with_name(folder.name + ".part")
        part.mkdir(parents=True, exist_ok=True)
        make_widened(part, {**SHAPES["qwen-0.5b"], "num_key_value_heads": COMMON["num_key_value_heads"]}, VOCABULARY, seed)
        os.replace(part, folder)
        return
    if name in OTHER_SHAPES:
        config = dict(OTHER_SHAPES[name])
        size = config["vocab_size"]
        config |= {"torch_dtype": "bfloat16", "bos_token_id": size - 3, "eos_token_id": size - 1, "pad_token_id": size - 3}
    else:
        config = COMMON | SHAPES[name]
        config["architectures"] = ["Qwen2ForCausalLM" if config["model_type"] == "qwen2" else "LlamaForCausalLM"]
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    (part / "config.json").write_text(json.dumps(config, indent=1))
    write_tokenizer(part, config["vocab_size"])
    write_weights(part / "model.safetensors", config, seed)
    if config["model_type"] == "llama":
        write_meta_form(part, config)
    os.replace(part, folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which to make: {', '.join(SHAPES)} (default: these), {', '.join(OTHER_SHAPES)}, {GROWN}"
    )
    parser.add_argument("--work", type=Path, default=WORK, help="work folder (default: .work/benchmarks in the repository)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.names or SHAPES:
        if name not in (*SHAPES, *OTHER_SHAPES, GROWN):
            parser.error(f"{name!r} is not one of {', '.join((*SHAPES, *OTHER_SHAPES, GROWN))}")
        folder = options.work / "checkpoints" / name
        if folder.is_dir():
            print(f"{folder}: already there")
            continue
        make(folder, name, options.seed)
        print(f"{folder}: {sum(p.stat().st_size for p in folder.iterdir()) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
