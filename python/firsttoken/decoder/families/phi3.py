"""Phi-3 and Phi-4-mini: Llama with fused matrices, longrope, and part of a head turned."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, pre_norm_block, sliding_windows
from firsttoken.decoder.parts import Block, Decoder

MODELS = "Phi-3, Phi-3.5-mini, Phi-4-mini (up to the positions before longrope's long factors)"
FUSED_MLP = ("gate_up_proj", "gate_up_proj", "down_proj")


def describe(config: Config) -> Decoder:
    windows = sliding_windows(config, used=config.get("sliding_window") is not None)

    def block(number: int, at: str) -> Block:
        mixed = attention(config, at, window=windows[number], fused="qkv_proj")
        return pre_norm_block(config, at, mixed, gated_mlp(config, at, names=FUSED_MLP))

    return decoder(config, block)
