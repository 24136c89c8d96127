"""Granite 3: Llama with factors on embedding, residual, scores and logits."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, pre_norm_block
from firsttoken.decoder.parts import Block, Decoder

MODELS = "Granite 3 (dense)"


def describe(config: Config) -> Decoder:
    bias, residual = config.flag("attention_bias"), config.number("residual_multiplier", 1.0)

    def block(_: int, at: str) -> Block:
        mixed = attention(
            config, at, qkv_bias=bias, output_bias=bias, scale=config.number("attention_multiplier", 1.0), output_scale=residual
        )
        return pre_norm_block(config, at, mixed, gated_mlp(config, at, bias=config.flag("mlp_bias"), down_scale=residual))

    return granite_decoder(config, block)


def granite_decoder(config: Config, block) -> Decoder:  # type: ignore[no-untyped-def]
    return decoder(
        config, block, embedding_scale=config.number("embedding_multiplier", 1.0), logit_scale=1 / config.number("logits_scaling", 1.0)
    )
