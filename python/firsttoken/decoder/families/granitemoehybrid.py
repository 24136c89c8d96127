"""Granite 4 without experts and state-space layers: Granite whose MLP's gate and up projection are one matrix."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import Turning, attention, gated_mlp, pre_norm_block, turning
from firsttoken.decoder.families.granite import granite_decoder
from firsttoken.decoder.parts import Block, Decoder
from firsttoken.errors import FirstTokenError

MODELS = "Granite 4 (dense, attention only)"
STATE_SPACE = (
    "mamba_n_heads", "mamba_n_groups", "mamba_d_state", "mamba_d_head", "mamba_d_conv", "mamba_expand", "mamba_chunk_size",
    "mamba_conv_bias", "mamba_proj_bias", "time_step_limit", "num_experts_per_tok", "router_aux_loss_coef", "output_router_logits",
    "intermediate_size",
)  # fmt: skip


def describe(config: Config) -> Decoder:
    kinds = config.get("layer_types", config.get("layers_block_type"))
    if not isinstance(kinds, list) or any(kind not in ("attention", "full_attention") for kind in kinds):
        raise FirstTokenError(f"config.json: layer_types {kinds!r}: state-space layers are not supported in a granitemoehybrid decoder")
    if config.get("num_local_experts", 8):
        raise FirstTokenError(
            "config.json: num_local_experts: layers of experts are not supported in a granitemoehybrid decoder; expected 0"
        )
    for key in STATE_SPACE:
        config.get(key)  # of layers that this model does not have
    turned = turning(config)
    if config.get("position_embedding_type") != "rope":
        turned = Turning(None)
    bias, residual = config.flag("attention_bias"), config.number("residual_multiplier", 1.0)

    def block(_: int, at: str) -> Block:
        mixed = attention(
            config,
            at,
            turned=turned,
            qkv_bias=bias,
            output_bias=bias,
            scale=config.number("attention_multiplier", 1.0),
            output_scale=residual,
        )
        names, size = ("input_linear", "input_linear", "output_linear"), config.size("shared_intermediate_size", 1024)
        return pre_norm_block(config, at, mixed, gated_mlp(config, at, names=names, group="shared_mlp", size=size, down_scale=residual))

    return granite_decoder(config, block)
