"""Llama 4's text decoder without experts, as MobileLLM-R1 is: norms without weights after the rotation, layers without positions."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import Turning, attention, decoder, gated_mlp, head_counts, max_positions, pre_norm_block, turning
from firsttoken.decoder.families.smollm3 import layers_with_positions
from firsttoken.decoder.parts import Block, Decoder, Norm
from firsttoken.errors import FirstTokenError

MODELS = "MobileLLM-R1"
OF_EXPERTS = (
    "num_local_experts", "num_experts_per_tok", "interleave_moe_layer_step", "intermediate_size", "router_aux_loss_coef",
    "router_jitter_noise", "output_router_logits",
)  # fmt: skip


def describe(config: Config) -> Decoder:
    count = config.size("num_hidden_layers")
    experts = config.get("moe_layers")
    if experts is None:
        step = config.get("interleave_moe_layer_step", 1)
        experts = list(range(step - 1, count, step)) if isinstance(step, int) and step > 0 else []
    for key in OF_EXPERTS:
        config.get(key)  # of the layers with experts
    if experts:
        raise FirstTokenError(f"config.json: moe_layers {experts}: layers of experts are not supported in a llama4_text decoder")
    turned, with_positions = turning(config, pairs=True, theta=500_000.0), layers_with_positions(config)
    bias, normed, dim = config.flag("attention_bias"), config.flag("use_qk_norm", True), head_counts(config)[2]
    no_weight = Norm(None, dim, config.fraction("rms_norm_eps", 1e-5))

    def block(number: int, at: str) -> Block:
        turns = with_positions[number]
        mixed = attention(
            config, at, turned=turned if turns else Turning(None), qkv_bias=bias, output_bias=bias,
            norms=(lambda *_: no_weight) if normed and turns else None, norms_follow_rotation=normed and turns,
        )  # fmt: skip
        size = config.size("intermediate_size_mlp", 16384)
        return pre_norm_block(config, at, mixed, gated_mlp(config, at, group="feed_forward", size=size))

    return decoder(config, block, positions=positions_alike(config))


def positions_alike(config: Config) -> int:
    """Up to where every layer sees all before it and no query is scaled by its position; beyond it both would have to be computed."""
    most, chunk = max_positions(config), config.get("attention_chunk_size", 8192)
    kinds = config.get("layer_types")
    if kinds is None or "chunked_attention" in kinds:
        most = min(most, int(chunk))
    tuned, floor = config.flag("attn_temperature_tuning", True), config.number("floor_scale", 8192)
    config.get("attn_scale")
    return min(most, int(floor) - 1) if tuned else most
