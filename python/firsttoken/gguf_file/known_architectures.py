"""The architectures of GGUF files that are read: a line each, of what differs from Llama's keys and names.

What a file does not say is what llama.cpp has in its own code for the architecture (src/models); the converter leaves it out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Configuration = Mapping[str, Any]


@dataclass(frozen=True)
class Architecture:
    """``keys`` are whole numbers and ``numbers`` others, each key behind "<architecture>." with its name in a ``config.json``; ``block``
    are a layer's tensors beyond the common ones, or in their place. ``always`` is what every file of it means, ``derived`` what follows from the rest.

    ``interleaved``: the converter put the two halves of every query and key head between each other, as llama.cpp rotates them.
    ``norms_plus_one``: it added 1 to the weights of norms, which transformers stores less 1.
    """

    model_type: str
    keys: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, str] = field(default_factory=dict)
    block: Mapping[str, str] = field(default_factory=dict)
    always: Mapping[str, Any] = field(default_factory=dict)
    derived: Callable[[Configuration], Configuration] = lambda config: {}
    interleaved: bool = False
    norms_plus_one: bool = False


HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
NORMS_AFTER = {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
NO_WINDOW = {"use_sliding_window": False}
GELU = {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh"}
GRANITE_FACTORS = {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}
GEMMA2_LAYERS_OF_27B, GEMMA3_LAYERS_OF_27B = 46, 62


def query_scalar(layers_of_27b: int) -> Callable[[Configuration], Configuration]:
    """Gemma's 27B models scale queries by the hidden size over the number of heads, the others by the size of a head; llama.cpp knows
    them by their number of layers."""

    def found(config: Configuration) -> Configuration:
        if config["num_hidden_layers"] == layers_of_27b:
            return {"query_pre_attn_scalar": config["hidden_size"] // config["num_attention_heads"]}
        return {"query_pre_attn_scalar": config["head_dim"]}

    return found


ARCHITECTURES = {
    "llama": Architecture("llama", interleaved=True),
    "qwen2": Architecture("qwen2", always=NO_WINDOW),
    "qwen3": Architecture("qwen3", block=HEAD_NORMS, always=NO_WINDOW),
    "smollm3": Architecture("smollm3", always=NO_WINDOW | {"no_rope_layer_interval": 4}, interleaved=True),
    "arcee": Architecture("arcee", always={"hidden_act": "relu2"}, interleaved=True),
    "granite": Architecture("granite", numbers=GRANITE_FACTORS, interleaved=True),
    "olmo2": Architecture("olmo2", block=HEAD_NORMS | NORMS_AFTER),
    "phi3": Architecture("phi3", block={"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}),
    "gemma": Architecture("gemma", always=GELU, norms_plus_one=True),
    "gemma2": Architecture(
        "gemma2",
        keys={"attention.sliding_window": "sliding_window"},
        numbers={"attn_logit_softcapping": "attn_logit_softcapping", "final_logit_softcapping": "final_logit_softcapping"},
        block=NORMS_AFTER | {"ffn_norm": "pre_feedforward_layernorm"},
        always=GELU,
        derived=query_scalar(GEMMA2_LAYERS_OF_27B),
        norms_plus_one=True,
    ),
    "gemma3": Architecture(
        "gemma3_text",
        keys={"attention.sliding_window": "sliding_window"},
        numbers={"rope.freq_base_swa": "rope_local_base_freq", "final_logit_softcapping": "final_logit_softcapping"},
        block=HEAD_NORMS | NORMS_AFTER | {"ffn_norm": "pre_feedforward_layernorm"},
        always=GELU | {"sliding_window_pattern": 6},
        derived=query_scalar(GEMMA3_LAYERS_OF_27B),
        norms_plus_one=True,
    ),
}
