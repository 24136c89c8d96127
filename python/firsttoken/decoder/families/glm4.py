"""GLM-4-0414: GLM with norms after attention and MLP too."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, rms_norm, turning
from firsttoken.decoder.families.phi3 import FUSED_MLP
from firsttoken.decoder.parts import Block, Decoder

MODELS = "GLM-4-0414"
NORMS = ("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm")


def describe(config: Config) -> Decoder:
    turned = turning(config, pairs=True, rotary=0.5)

    def block(_: int, at: str) -> Block:
        mixed = attention(config, at, turned=turned, qkv_bias=config.flag("attention_bias", True))
        before, after, before_mlp, after_mlp = (rms_norm(config, f"{at}.{name}", config.size("hidden_size")) for name in NORMS)
        return Block(
            attention_norm=before, attention=mixed, attention_output_norm=after, mlp_norm=before_mlp,
            mlp=gated_mlp(config, at, names=FUSED_MLP), mlp_output_norm=after_mlp,
        )  # fmt: skip

    return decoder(config, block)
