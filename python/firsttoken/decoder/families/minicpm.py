"""MiniCPM 1 to 4: Llama with factors on embedding, residual and logits (arXiv 2404.06395)."""

import math

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, pre_norm_block
from firsttoken.decoder.parts import Block, Decoder

MODELS = "MiniCPM, MiniCPM4 (dense attention)"


def describe(config: Config) -> Decoder:
    residual = config.number("scale_depth", 1.0) / math.sqrt(config.size("num_hidden_layers"))
    width = config.size("hidden_size") / config.number("dim_model_base", config.size("hidden_size"))
    for key in ("mup_denominator", "num_experts"):  # of training, and of another class
        config.get(key)

    def block(_: int, at: str) -> Block:
        bias = config.flag("attention_bias")
        mixed = attention(config, at, qkv_bias=bias, output_bias=bias, output_scale=residual)
        return pre_norm_block(config, at, mixed, gated_mlp(config, at, down_scale=residual))

    return decoder(config, block, tied=True, embedding_scale=config.number("scale_emb", 1.0), logit_scale=1 / width)
