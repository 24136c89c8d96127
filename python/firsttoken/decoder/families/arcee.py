"""Arcee's AFM: Llama with an MLP without gate, of squared ReLU."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, plain_mlp, pre_norm_block
from firsttoken.decoder.parts import Block, Decoder

MODELS = "AFM-4.5B"


def describe(config: Config) -> Decoder:
    def block(_: int, at: str) -> Block:
        bias = config.flag("attention_bias")
        mixed = attention(config, at, qkv_bias=bias, output_bias=bias)
        return pre_norm_block(config, at, mixed, plain_mlp(config, at, bias=config.flag("mlp_bias")))

    return decoder(config, block)
