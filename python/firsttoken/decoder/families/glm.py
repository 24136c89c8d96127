"""GLM-Edge and GLM-4-9B: neighbouring values of half a head turned, a fused MLP."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, pre_norm_block, turning
from firsttoken.decoder.families.phi3 import FUSED_MLP
from firsttoken.decoder.parts import Block, Decoder

MODELS = "GLM-Edge, GLM-4-9B"


def describe(config: Config) -> Decoder:
    turned = turning(config, pairs=True, rotary=0.5)

    def block(_: int, at: str) -> Block:
        mixed = attention(config, at, turned=turned, qkv_bias=config.flag("attention_bias", True))
        return pre_norm_block(config, at, mixed, gated_mlp(config, at, names=FUSED_MLP))

    return decoder(config, block)
