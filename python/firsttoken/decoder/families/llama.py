"""The Llama family tree's root: every bias a switch, no window, no norms of heads."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, pre_norm_block
from firsttoken.decoder.parts import Block, Decoder

MODELS = "Llama 2 and 3, SmolLM, DeepSeek-R1-Distill-Llama"


def describe(config: Config) -> Decoder:
    def block(_: int, at: str) -> Block:
        bias = config.flag("attention_bias")
        mixed = attention(config, at, qkv_bias=bias, output_bias=bias)
        return pre_norm_block(config, at, mixed, gated_mlp(config, at, bias=config.flag("mlp_bias")))

    return decoder(config, block)
