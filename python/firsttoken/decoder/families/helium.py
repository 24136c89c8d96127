"""Helium: Llama that turns neighbouring values of a head."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, pre_norm_block, turning
from firsttoken.decoder.parts import Block, Decoder

MODELS = "Helium 1"


def describe(config: Config) -> Decoder:
    bias, turned = config.flag("attention_bias"), turning(config, pairs=True, theta=100_000.0)

    def block(_: int, at: str) -> Block:
        mixed = attention(config, at, turned=turned, qkv_bias=bias)
        return pre_norm_block(config, at, mixed, gated_mlp(config, at, bias=config.flag("mlp_bias")))

    return decoder(config, block)
