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

WINDOWS = {
    "sliding_window": 24,
    "num_hidden_layers": 8,
    "num_key_value_heads": 2,
}  # four layers of each kind, shorter than the tests' prompts
LOCAL = ["sliding_attention", "full_attention"] * 4
DEEP = {"num_key_value_heads": 2, "num_hidden_layers": 4}
EXPERTS = {"num_key_value_heads": 2, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
SHORT = {"num_key_value_heads": 2, "num_hidden_layers": 9}
GEMMA = {**WINDOWS, "head_dim": 24, "query_pre_attn_scalar": 20, "layer_types": LOCAL}
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.1, 1.3, 1.7], "long_factor": [2.0, 3.0, 5.0, 9.0],
    "original_max_position_embeddings": 256,
}  # fmt: skip
DYNAMIC_ALPHA = {"rope_type": "dynamic", "rope_theta": 10000.0, "alpha": 1000.0, "factor": 1.0, "beta_fast": 32, "beta_slow": 1}
MINISTRAL_ROPE = {
    "rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 256, "beta_fast": 32.0, "beta_slow": 1.0,
    "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1,
}  # fmt: skip
BY_KIND = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
}
OLMO3_ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 500000.0},
    "full_attention": {**YARN_ROPE, "rope_theta": 500000.0},
}

GEMMA4 = {
    **WINDOWS, "num_hidden_layers": 16, "head_dim": 16, "global_head_dim": 24, "layer_types": LOCAL * 2, "num_kv_shared_layers": 8,
    "use_double_wide_mlp": True, "hidden_size_per_layer_input": 32, "vocab_size_per_layer_input": 131, "final_logit_softcapping": 3.0,
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0},
    },
}  # fmt: skip
GEMMA3N = {
    **WINDOWS, "num_hidden_layers": 16, "head_dim": 16, "layer_types": LOCAL * 2, "num_kv_shared_layers": 8, "laurel_rank": 8,
    "intermediate_size": [96, 96, 128, 128] * 4, "activation_sparsity_pattern": [0.9, 0.0, 0.0, 0.6] * 4, "hidden_size_per_layer_input": 32,
    "vocab_size_per_layer_input": 120, "final_logit_softcapping": 3.0,
    "rope_parameters": {**BY_KIND, "full_attention": {"rope_type": "default", "rope_theta": 1000000.0}},
}  # fmt: skip
KEYS_AS_VALUES = {"attention_k_eq_v": True, "num_global_key_value_heads": 1, "use_bidirectional_attention": "vision"}

QWEN3_5 = {
    **DEEP, "num_hidden_layers": 8, "head_dim": 16, "layer_types": ["linear_attention", "full_attention"] * 4, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "rms_norm_eps": 1e-3,  # random heads give almost nothing at times, and norms make large what little it is
    "rope_parameters": {
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1], "mrope_interleaved": True,
    },
}  # fmt: skip

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
    "mistral-window": ("Mistral", {**WINDOWS, "num_hidden_layers": 4}),
    "ministral": ("Ministral", {**WINDOWS, "head_dim": 16, "layer_types": LOCAL}),
    "ministral3": ("Ministral3", {**DEEP, "head_dim": 32, "rope_parameters": MINISTRAL_ROPE, "max_position_embeddings": 1024}),
    "mobilellm-r1": (
        "Llama4Text",
        {
            **DEEP,
            "num_hidden_layers": 8,
            "head_dim": 16,
            "intermediate_size_mlp": 96,
            "num_local_experts": 0,
            "moe_layers": [],
            "no_rope_layers": [1, 0] * 4,
            "use_qk_norm": True,
            "attn_temperature_tuning": False,
            "tie_word_embeddings": True,
        },
    ),
    "gemma": ("Gemma", {**DEEP, "head_dim": 24}),
    "gemma2": ("Gemma2", {**GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma3": ("Gemma3Text", {**GEMMA, "rope_parameters": BY_KIND}),
    "gemma3n": ("Gemma3nText", GEMMA3N),
    "gemma3n-own": (
        "Gemma3nText",
        {
            **GEMMA3N,
            "num_hidden_layers": 4,
            "num_kv_shared_layers": 0,
            "layer_types": ["full_attention", "sliding_attention"] * 2,
            "altup_num_inputs": 3,
            "intermediate_size": 96,
            "activation_sparsity_pattern": None,
            "vocab_size_per_layer_input": 140,
        },
    ),
    "gemma4": ("Gemma4Text", GEMMA4),
    "gemma4-31b": (
        "Gemma4Text",
        {
            **GEMMA4,
            **KEYS_AS_VALUES,
            "hidden_size_per_layer_input": 0,
            "num_kv_shared_layers": 0,
            "num_hidden_layers": 8,
            "layer_types": LOCAL,
        },
    ),
    "gemma4-unified": (
        "Gemma4UnifiedText",
        {**WINDOWS, **KEYS_AS_VALUES, "head_dim": 16, "global_head_dim": 24, "num_hidden_layers": 4, "layer_types": LOCAL[:4]},
    ),
    "smollm3": ("SmolLM3", {**DEEP, "num_hidden_layers": 8, "no_rope_layers": [1, 0] * 4, "pad_token_id": 0}),
    "granite": (
        "Granite",
        {**DEEP, "embedding_multiplier": 12.0, "attention_multiplier": 0.1, "residual_multiplier": 0.22, "logits_scaling": 8.0},
    ),
    "granite-tied": (
        "Granite",
        {
            **DEEP,
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.1,
            "residual_multiplier": 0.22,
            "logits_scaling": 0.2,
            "tie_word_embeddings": True,
            "attention_bias": True,
            "mlp_bias": True,
        },
    ),
    "granite4": (
        "GraniteMoeHybrid",
        {
            **DEEP,
            "layer_types": ["full_attention"] * 4,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "shared_intermediate_size": 96,
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.1,
            "residual_multiplier": 0.22,
            "logits_scaling": 0.2,
            "position_embedding_type": "rope",
            "tie_word_embeddings": True,
            "mamba_n_heads": 8,
            "mamba_d_head": 16,
        },
    ),
    "phi3": ("Phi3", {**WINDOWS, "num_hidden_layers": 4, "pad_token_id": 0}),
    "phi4-mini": (
        "Phi3",
        {
            **DEEP,
            "pad_token_id": 0,
            "rope_parameters": {**LONGROPE, "partial_rotary_factor": 0.5},
            "max_position_embeddings": 1024,
            "original_max_position_embeddings": 256,
            "tie_word_embeddings": True,
        },
    ),
    "olmo2": ("Olmo2", DEEP),
    "olmo3": ("Olmo3", {**WINDOWS, "layer_types": LOCAL, "rope_parameters": OLMO3_ROPE}),
    "exaone4": ("Exaone4", {**WINDOWS, "layer_types": LOCAL}),
    "exaone4-small": ("Exaone4", {**DEEP, "sliding_window": None, "layer_types": ["full_attention"] * 4}),
    "hunyuan": ("HunYuanDenseV1", {**DEEP, "head_dim": 32, "rope_parameters": DYNAMIC_ALPHA, "tie_word_embeddings": True}),
    "ernie4_5": ("Ernie4_5", {**DEEP, "head_dim": 32}),
    "ernie4_5-bias": ("Ernie4_5", {**DEEP, "head_dim": 16, "use_bias": True}),
    "glm": ("Glm", {**DEEP, "head_dim": 16, "pad_token_id": 0}),
    "glm4": ("Glm4", {**DEEP, "head_dim": 16, "pad_token_id": 0}),
    "helium": ("Helium", {**DEEP, "head_dim": 16}),
    "arcee": ("Arcee", DEEP),
    "seed_oss": ("SeedOss", {**DEEP, "head_dim": 16}),
    "nemotron": ("Nemotron", {**DEEP, "attention_bias": True, "mlp_bias": True}),
    "cohere2": ("Cohere2", {**WINDOWS, "layer_types": LOCAL, "logit_scale": 0.5}),
    "lfm2": ("Lfm2", {**SHORT, "layer_types": ["conv", "full_attention"] * 4 + ["conv"], "block_auto_adjust_ff_dim": False}),
    "lfm2-ends-attentive": (
        "Lfm2",
        {
            **SHORT,
            "num_hidden_layers": 8,
            "full_attn_idxs": [1, 3, 5, 7],
            "conv_bias": True,
            "conv_L_cache": 4,
            "block_ff_dim": 150,
            "block_multiple_of": 16,
            "block_ffn_dim_multiplier": 1.1,
            "tie_embedding": False,
        },
    ),
    "qwen3_5": ("Qwen3_5Text", QWEN3_5),
    "qwen3_5-ends-recurrent": (
        "Qwen3_5Text",
        {
            **QWEN3_5,
            "layer_types": ["full_attention", "linear_attention"] * 4,
            "linear_num_key_heads": 1,
            "linear_num_value_heads": 3,
            "linear_value_head_dim": 12,
            "linear_conv_kernel_dim": 3,
            "attention_bias": True,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3_moe": ("Qwen3Moe", {**EXPERTS, "head_dim": 16, "num_hidden_layers": 8, "decoder_sparse_step": 2, "norm_topk_prob": True}),
    "qwen3_moe-softmax": (
        "Qwen3Moe",
        {
            **EXPERTS,
            **WINDOWS,
            "mlp_only_layers": [0, 2, 3, 7],
            "use_sliding_window": True,
            "num_experts": 5,
            "moe_intermediate_size": 32,
            "tie_word_embeddings": True,
        },
    ),
    "lfm2_moe": (
        "Lfm2Moe",
        {
            **EXPERTS,
            "num_hidden_layers": 12,
            "num_dense_layers": 4,
            "layer_types": ["conv", "full_attention"] * 6,
            "routed_scaling_factor": 1.5,
        },
    ),
    "lfm2_moe-unbiased": (
        "Lfm2Moe",
        {
            **EXPERTS,
            "num_hidden_layers": 8,
            "num_dense_layers": 0,
            "layer_types": ["full_attention", "conv"] * 4,
            "use_expert_bias": False,
            "norm_topk_prob": False,
            "conv_bias": True,
            "tie_word_embeddings": False,
        },
    ),
    "qwen3-bias": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 16, "attention_bias": True, "tie_word_embeddings": False}),
}


# One case of every family, for what takes long.
ONE_OF_EACH = list({family: case for case, (family, _) in reversed(CASES.items())}.values())
# On the NPU's emulator, with two layers: what has a part that no other has there.
MIXED = {"layer_types": ["sliding_attention", "full_attention"]}
ON_HEXAGON = {
    "llama3": {}, "qwen2": {}, "qwen3": {}, "gemma2": MIXED, "gemma3": MIXED, "smollm3": {"no_rope_layers": [1, 0]}, "granite-tied": {},
    "phi4-mini": {}, "nemotron": {},
}  # fmt: skip
# On LiteRT's GPU accelerator, with two layers.
ON_GPU = {"llama3": {}, "qwen2": {}, "qwen3": {}, "gemma2": MIXED, "gemma3": MIXED, "smollm3": {"no_rope_layers": [1, 0]}, "nemotron": {}}
# Through LiteRT-LM's signatures.
ON_LITERTLM = ("llama3", "gemma2", "gemma3", "mistral-window", "cohere2", "gemma4", "gemma4-unified", "gemma3n")
LESS_ONE = ("Gemma", "Gemma2", "Gemma3Text", "Nemotron", "Qwen3_5Text")  # store their norms' weights less 1


def configuration(case: str) -> dict:
    """The values of a case's config.json."""
    import transformers

    prefix, more = CASES[case]
    return getattr(transformers, f"{prefix}Config")(**{**SIZES, **more}).to_dict()


def random_model(case: str, seed: int = 0, **changes):
    """A transformers model with random weights; biases and norm weights too, so that dropping one is noticed."""
    import transformers

    prefix, more = CASES[case]
    if "vocab_size_per_layer_input" in more and "vocab_size" in changes:
        changes["vocab_size_per_layer_input"] = changes["vocab_size"]
    config = getattr(transformers, f"{prefix}Config")(**{**SIZES, **more, **changes})
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    named = {
        "Gemma3Text": "Gemma3",
        "Gemma3nText": "Gemma3n",
        "Gemma4Text": "Gemma4",
        "Gemma4UnifiedText": "Gemma4Unified",
        "Llama4Text": "Llama4",
        "Qwen3_5Text": "Qwen3_5",
    }.get(prefix, prefix)
    model = getattr(transformers, f"{named}ForCausalLM")(config).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if "norm" in name and name.endswith("bias"):
            weight.copy_(0.3 * torch.randn_like(weight))
        elif prefix.startswith(("Gemma3n", "Gemma4")) and name.endswith("q_norm.weight"):  # which holds the scale of the scores there
            weight.copy_((1 + 0.3 * torch.randn_like(weight)) * len(weight) ** -0.5)
        elif name.endswith("linear_attn.norm.weight"):  # of this one Qwen3.5 stores the whole weight
            weight.copy_(1 + 0.3 * torch.randn_like(weight))
        elif name.endswith("A_log"):
            weight.copy_(torch.rand_like(weight).mul(4).add(0.02).log())
        elif name.endswith("dt_bias"):
            weight.copy_(torch.randn_like(weight) - 2)
        elif name.endswith("modality_router.weight"):  # what it takes is divided by its size
            weight.copy_(0.3 * torch.randn_like(weight) * weight.shape[-1] ** 0.5)
        elif name.endswith(
            ("prediction_coefs.weight", "correction_coefs.weight")
        ):  # streams that grow in every layer would leave nothing of what layers compute
            weight.copy_(0.1 * torch.randn_like(weight))
        elif "norm" in name or name.endswith("correct_output_scale"):
            weight.copy_((0 if prefix in LESS_ONE else 1) + 0.3 * torch.randn_like(weight))
        else:
            weight.copy_(torch.randn_like(weight) * (0.5 if name.endswith("bias") else weight.shape[-1] ** -0.5))
    for name, number in model.named_buffers():
        if name.endswith("layer_scalar"):  # Gemma 4: a weight that no optimizer changes
            number.fill_(0.6 + 0.8 * torch.rand(()).item())
        elif name.endswith("expert_bias"):  # LFM2-MoE: what balances the choice of experts, likewise
            number.copy_(0.2 * torch.randn_like(number))
    return model


def save(model, folder: Path, dtype: torch.dtype = torch.float32, **options) -> Path:
    """Writes the checkpoint in ``dtype`` and leaves the model with the weights that were written, in float32."""
    for weight in model.parameters():  # only the weights: a rounded inv_freq would be another model
        weight.copy_(weight.to(dtype))
    copy.deepcopy(model).to(dtype).save_pretrained(folder, **options)
    return folder
