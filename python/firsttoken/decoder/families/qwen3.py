"""Qwen3: norms over every query and key head; biases a switch."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, head_norms, pre_norm_block
from firsttoken.decoder.families.qwen2 import qwen_windows
from firsttoken.decoder.parts import Block, Decoder

MODELS = "Qwen3 (dense)"


def describe(config: Config) -> Decoder:
    windows = qwen_windows(config)

    def block(number: int, at: str) -> Block:
        bias = config.flag("attention_bias")
        mixed = attention(config, at, qkv_bias=bias, output_bias=bias, norms=head_norms(config, at), window=windows[number])
        return pre_norm_block(config, at, mixed, gated_mlp(config, at))

    return decoder(config, block)
