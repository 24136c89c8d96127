"""ERNIE 4.5: Llama that turns neighbouring values of a head."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, pre_norm_block, turning
from firsttoken.decoder.parts import Block, Decoder

MODELS = "ERNIE 4.5 0.3B"


def describe(config: Config) -> Decoder:
    bias, turned = config.flag("use_bias"), turning(config, pairs=True, theta=500_000.0)
    for key in ("compression_ratio", "fuse_rms_norm", "rope_3d"):
        config.get(key)

    def block(_: int, at: str) -> Block:
        mixed = attention(config, at, turned=turned, qkv_bias=bias, output_bias=bias)
        return pre_norm_block(config, at, mixed, gated_mlp(config, at, bias=bias))

    return decoder(config, block, tied=True)
