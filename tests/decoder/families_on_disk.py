"""Random small checkpoints of every supported family, written by transformers."""

import copy
from pathlib import Path

import torch

SIZES = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
    "vocab_size": 131, "max_position_embeddings": 256,
}  # fmt: skip
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN_ROPE = {"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 4.0, "original_max_position_embeddings": 64}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5}

# Name -> (transformers' class prefix, configuration beyond SIZES).
CASES = {
    "llama2": ("Llama", {}),
    "llama3": ("Llama", {"num_key_value_heads": 2, "rope_parameters": LLAMA3_ROPE}),
    "llama-biases": ("Llama", {"num_key_value_heads": 2, "attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-5}),
    "llama-head-dim": ("Llama", {"num_key_value_heads": 2, "head_dim": 24}),
    "llama-linear-rope": ("Llama", {"num_key_value_heads": 1, "rope_parameters": LINEAR_ROPE}),
    "smollm": ("Llama", {"num_attention_heads": 3, "num_key_value_heads": 1, "hidden_size": 96, "tie_word_embeddings": True}),
    "mistral": ("Mistral", {"num_key_value_heads": 2, "head_dim": 32, "sliding_window": None}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen2-untied": ("Qwen2", {"num_key_value_heads": 2, "tie_word_embeddings": False}),
    "qwen2-yarn": ("Qwen2", {"num_key_value_heads": 2, "rope_parameters": YARN_ROPE}),
    "qwen3": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True}),
    "qwen3-bias": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 16, "attention_bias": True, "tie_word_embeddings": False}),
}


def random_model(case: str, seed: int = 0, **changes):
    """A transformers model with random weights; biases and norm weights too, so that dropping one is noticed."""
    import transformers

    prefix, more = CASES[case]
    config = getattr(transformers, f"{prefix}Config")(**{**SIZES, **more, **changes})
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = getattr(transformers, f"{prefix}ForCausalLM")(config).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.copy_(1 + 0.3 * torch.randn_like(weight))
        else:
            weight.copy_(torch.randn_like(weight) * (0.5 if name.endswith("bias") else weight.shape[-1] ** -0.5))
    return model


def save(model, folder: Path, dtype: torch.dtype = torch.float32, **options) -> Path:
    """Writes the checkpoint in ``dtype`` and leaves the model with the weights that were written, in float32."""
    for weight in model.parameters():  # only the weights: a rounded inv_freq would be another model
        weight.copy_(weight.to(dtype))
    copy.deepcopy(model).to(dtype).save_pretrained(folder, **options)
    return folder
