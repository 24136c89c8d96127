"""Seed-OSS: Llama with separate switches for the biases of projections and of the output."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, pre_norm_block
from firsttoken.decoder.parts import Block, Decoder

MODELS = "Seed-OSS"


def describe(config: Config) -> Decoder:
    config.get("residual_dropout")

    def block(_: int, at: str) -> Block:
        mixed = attention(config, at, qkv_bias=config.flag("attention_bias", True), output_bias=config.flag("attention_out_bias"))
        return pre_norm_block(config, at, mixed, gated_mlp(config, at, bias=config.flag("mlp_bias")))

    return decoder(config, block)
