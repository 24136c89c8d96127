"""Qwen3.5: three layers of four are gated delta nets (arXiv 2412.06464), every fourth has attention with a gate on what it gives."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import (
    activation,
    attention,
    decoder,
    gated_mlp,
    head_norms,
    linear,
    rms_norm,
    turning,
)
from firsttoken.decoder.parts import Block, Convolution, Decoder, DeltaNet, DeltaRule, Linear, Norm
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible
from firsttoken.weight_source import Source

MODELS = "Qwen3.5 (dense)"
ATTENTION, DELTA = "full_attention", "linear_attention"
LENGTH_EPSILON = 1e-6  # of the length of queries and keys, in the model's code
# What is said of the layers that predict a second token, which transformers leaves out too.
SECOND_TOKEN = ("mtp_num_hidden_layers", "mtp_use_dedicated_embeddings")

DELTA_SIZES = (  # there even where no layer has a delta net
    "linear_conv_kernel_dim", "linear_key_head_dim", "linear_num_key_heads", "linear_num_value_heads", "linear_value_head_dim",
)  # fmt: skip


def describe(config: Config) -> Decoder:
    hidden, kinds = config.size("hidden_size"), layer_kinds(config)
    check_fixed(config)
    turned = turning(config, rotary=0.25, own=("mrope_section", "mrope_interleaved"))  # text has the same position in every section

    def norm(name: str, scale: float = 1.0) -> Norm:
        return rms_norm(config, name, hidden, add=1.0, scale=scale)

    def block(number: int, at: str) -> Block:
        before, between, mlp = norm(f"{at}.input_layernorm"), norm(f"{at}.post_attention_layernorm"), gated_mlp(config, at)
        if kinds[number] == DELTA:
            return Block(attention_norm=before, delta=delta_net(config, f"{at}.linear_attn"), mlp_norm=between, mlp=mlp)
        bias = config.flag("attention_bias")
        mixed = attention(config, at, turned=turned, qkv_bias=bias, gated=True, output_bias=bias, norms=head_norms(config, at, add=1.0))
        return Block(attention_norm=before, attention=mixed, mlp_norm=between, mlp=mlp)

    return decoder(config, block, norm=norm)


def check_fixed(config: Config) -> None:
    """Raises `FirstTokenError` for switches of the published configurations that transformers' class does not have, set otherwise."""
    for key in (*SECOND_TOKEN, *DELTA_SIZES):
        config.get(key)
    for key, fixed in (("attn_output_gate", True), ("mamba_ssm_dtype", "float32")):
        if (value := config.get(key, fixed)) != fixed:
            raise FirstTokenError(f"config.json: {key} is {visible(repr(value), 60)}; expected {fixed!r}, the only one that Qwen3.5 has")
    if activation(config) != "silu":
        raise FirstTokenError(
            f"config.json: hidden_act is {config.get('hidden_act')!r}; expected 'silu', which gated delta nets are made with"
        )


def layer_kinds(config: Config) -> list[str]:
    """`ATTENTION` or `DELTA` for every layer. Raises `FirstTokenError` for another kind, or where no layer has attention."""
    count, kinds, every = config.size("num_hidden_layers"), config.get("layer_types"), config.size("full_attention_interval", 4)
    if kinds is None:
        kinds = [DELTA if (number + 1) % every else ATTENTION for number in range(count)]
    if not isinstance(kinds, list) or len(kinds) != count or any(kind not in (ATTENTION, DELTA) for kind in kinds):
        raise FirstTokenError(
            f'config.json: layer_types is {visible(repr(kinds), 80)}; expected "{ATTENTION}" or "{DELTA}" for each of the {count} layers of num_hidden_layers'
        )
    if ATTENTION not in kinds:
        raise FirstTokenError("config.json: no layer has attention; a qwen3_5_text decoder without any is not supported")
    return kinds


def delta_net(config: Config, at: str) -> DeltaNet:
    """A gated delta net stored under ``at``. Its key heads are normed to length 1: ``x / sqrt(sum(x^2) + epsilon)`` is an RMSNorm without weight
    times ``key_dim^-0.5``, with an epsilon as many times smaller as there are values."""
    hidden, length = config.size("hidden_size"), config.size("linear_conv_kernel_dim", 4)
    key_heads, value_heads = config.size("linear_num_key_heads", 16), config.size("linear_num_value_heads", 32)
    key_dim, value_dim = config.size("linear_key_head_dim", 128), config.size("linear_value_head_dim", 128)
    if value_heads % key_heads:
        raise FirstTokenError(f"config.json: linear_num_value_heads {value_heads} is not a multiple of linear_num_key_heads {key_heads}")
    if length < 2:
        raise FirstTokenError(
            f"config.json: linear_conv_kernel_dim is {length}; expected at least 2, for a convolution over one position is none"
        )
    keys, values = key_heads * key_dim, value_heads * value_dim
    unit = Norm(None, key_dim, LENGTH_EPSILON / key_dim)
    step = linear(f"{at}.in_proj_a", value_heads, hidden)
    return DeltaNet(
        mixed=linear(f"{at}.in_proj_qkv", 2 * keys + values, hidden),
        kernel=Convolution(Source(f"{at}.conv1d.weight"), 2 * keys + values, length),
        q_norm=unit,
        k_norm=unit,
        strength=linear(f"{at}.in_proj_b", value_heads, hidden),
        forgetting=Linear(step.weight, value_heads, hidden, Source(f"{at}.dt_bias")),
        rule=DeltaRule(Source(f"{at}.A_log"), key_heads, value_heads, key_dim, value_dim),
        norm=Norm(Source(f"{at}.norm.weight"), value_dim, config.fraction("rms_norm_eps", 1e-6)),
        gate=linear(f"{at}.in_proj_z", values, hidden),
        output=linear(f"{at}.out_proj", hidden, values),
    )
