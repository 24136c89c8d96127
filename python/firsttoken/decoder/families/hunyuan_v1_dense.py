"""Hunyuan dense: Llama with norms over heads that come after the rotation, whose base a fixed alpha stretches."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, head_norms, pre_norm_block, turning
from firsttoken.decoder.parts import Block, Decoder

MODELS = "Hunyuan 0.5B to 7B (dense)"
ARCHITECTURES = ("HunYuanDenseV1ForCausalLM",)
READ_BY_NO_ONE = ("beta_fast", "beta_slow", "mscale", "mscale_all_dim")  # beside a fixed alpha


def describe(config: Config) -> Decoder:
    bias, turned = config.flag("attention_bias"), turning(config, own=READ_BY_NO_ONE)
    for key in ("eod_token_id", "use_qk_norm", "use_cla", "cla_share_factor", "pad_id", "norm_type", "mlp_bias"):
        config.get(key)

    def block(_: int, at: str) -> Block:
        names = head_norms(config, at, "{}_layernorm")
        mixed = attention(
            config, at, turned=turned, qkv_bias=bias, output_bias=bias, norms_follow_rotation=True,
            norms=lambda which, order: names({"q": "query", "k": "key"}[which], order),
        )  # fmt: skip
        return pre_norm_block(config, at, mixed, gated_mlp(config, at))

    return decoder(config, block)
