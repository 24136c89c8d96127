"""OLMo 2: norms after attention and MLP, and over all query and all key heads together (arXiv 2501.00656)."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, post_norm_block, projection_norms
from firsttoken.decoder.parts import Block, Decoder

MODELS = "OLMo 2"


def describe(config: Config) -> Decoder:
    bias = config.flag("attention_bias")

    def block(_: int, at: str) -> Block:
        mixed = attention(config, at, qkv_bias=bias, output_bias=bias, norms=projection_norms(config, at))
        return post_norm_block(config, at, mixed, gated_mlp(config, at))

    return decoder(config, block)
