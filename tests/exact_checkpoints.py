"""Small checkpoints that are the same to the bit on every machine: whole numbers over powers of two, from numpy's PCG64."""

import json
from pathlib import Path

import numpy as np

SIZES = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96,
    "vocab_size": 160, "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "hidden_act": "silu", "rope_theta": 10000.0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN_ROPE = {"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 4.0, "original_max_position_embeddings": 64}
# Between them every switch of the four families is on in one and off in another.
CASES: dict[str, dict] = {
    "llama": {"model_type": "llama", "tie_word_embeddings": False, "rope_parameters": LLAMA3_ROPE},
    "llama-biases": {"model_type": "llama", "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "head_dim": 24, "rms_norm_eps": 1e-5},
    "mistral": {"model_type": "mistral", "tie_word_embeddings": False, "sliding_window": None, "head_dim": 32},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen2-yarn": {"model_type": "qwen2", "tie_word_embeddings": False, "rope_parameters": YARN_ROPE},
    "qwen3": {"model_type": "qwen3", "tie_word_embeddings": True, "head_dim": 32},
    "qwen3-bias": {"model_type": "qwen3", "tie_word_embeddings": False, "attention_bias": True, "head_dim": 16},
}  # fmt: skip


def tensor_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """The checkpoint's tensors as transformers names them."""
    hidden, mlp, heads, kv = (config[k] for k in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"))
    dim = config.get("head_dim") or hidden // heads
    family = config["model_type"]
    qkv_bias = family == "qwen2" or bool(config.get("attention_bias"))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    for n in range(config["num_hidden_layers"]):
        at = f"model.layers.{n}."
        for name, rows, columns, bias in (
            ("self_attn.q_proj", heads * dim, hidden, qkv_bias),
            ("self_attn.k_proj", kv * dim, hidden, qkv_bias),
            ("self_attn.v_proj", kv * dim, hidden, qkv_bias),
            ("self_attn.o_proj", hidden, heads * dim, qkv_bias and family != "qwen2"),
            ("mlp.gate_proj", mlp, hidden, bool(config.get("mlp_bias"))),
            ("mlp.up_proj", mlp, hidden, bool(config.get("mlp_bias"))),
            ("mlp.down_proj", hidden, mlp, bool(config.get("mlp_bias"))),
        ):
            shapes[f"{at}{name}.weight"] = (rows, columns)
            if bias:
                shapes[f"{at}{name}.bias"] = (rows,)
        shapes |= {f"{at}{name}.weight": (hidden,) for name in ("input_layernorm", "post_attention_layernorm")}
        if family == "qwen3":
            shapes |= {f"{at}self_attn.{name}.weight": (dim,) for name in ("q_norm", "k_norm")}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    return shapes


def write_case(case: str, folder: Path) -> Path:
    """Writes the checkpoint of ``case`` (bfloat16) to ``folder`` and returns it."""
    config = {**SIZES, **CASES[case]}
    if "rope_parameters" in config:
        config.pop("rope_theta")
    random = np.random.default_rng(sorted(CASES).index(case))
    header, data, offset = {}, [], 0
    for name, shape in tensor_shapes(config).items():
        values = random.integers(-(1 << 20), 1 << 20, shape).astype(np.float32) / np.float32(1 << 22)  # in [-1/4, 1/4)
        if "norm" in name:
            values += 1
        raw = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + len(raw)]}
        data.append(raw)
        offset += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data))
    return folder
