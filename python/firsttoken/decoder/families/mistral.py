"""Mistral: Llama without biases, and in some releases a sliding window in every layer."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, pre_norm_block, sliding_windows
from firsttoken.decoder.parts import Block, Decoder

MODELS = "Mistral 7B and its fine-tunes"


def describe(config: Config) -> Decoder:
    windows = sliding_windows(config)

    def block(number: int, at: str) -> Block:
        return pre_norm_block(config, at, attention(config, at, window=windows[number]), gated_mlp(config, at))

    return decoder(config, block)
