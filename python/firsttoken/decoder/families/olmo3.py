"""OLMo 3: OLMo 2 with three layers of four in a window; scaling of the rotation is for the others alone."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import (
    Turning,
    attention,
    decoder,
    gated_mlp,
    post_norm_block,
    projection_norms,
    sliding_windows,
    turning,
)
from firsttoken.decoder.families.gemma3_text import nested
from firsttoken.decoder.parts import Block, Decoder

MODELS = "OLMo 3"


def describe(config: Config) -> Decoder:
    windows, bias = sliding_windows(config, every=4), config.flag("attention_bias")
    whole, local = rotations(config)

    def block(number: int, at: str) -> Block:
        turned = whole if windows[number] is None else local
        mixed = attention(
            config, at, turned=turned, qkv_bias=bias, output_bias=bias, window=windows[number], norms=projection_norms(config, at)
        )
        return post_norm_block(config, at, mixed, gated_mlp(config, at))

    return decoder(config, block)


def rotations(config: Config) -> tuple[Turning, Turning]:
    """The rotation of layers that see all, and of those in a window."""
    if nested(config):
        whole, local = (turning(config, kind=kind, theta=500_000.0) for kind in ("full_attention", "sliding_attention"))
        return whole, local
    unscaled = Config({key: value for key, value in config.values.items() if key not in ("rope_scaling", "rope_parameters")})
    return turning(config, theta=500_000.0), turning(unscaled, theta=500_000.0)
