"""Nemotron and Minitron: LayerNorms whose weights are stored less 1, half a head turned, an MLP of squared ReLU (arXiv 2402.16819)."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, layer_norm, plain_mlp, turning
from firsttoken.decoder.parts import Block, Decoder

MODELS = "Nemotron-Mini, Minitron"


def describe(config: Config) -> Decoder:
    hidden, bias, turned = config.size("hidden_size"), config.flag("attention_bias"), turning(config, rotary=0.5)

    def block(_: int, at: str) -> Block:
        before, between = (
            layer_norm(config, f"{at}.{name}", hidden, "norm_eps", add=1.0) for name in ("input_layernorm", "post_attention_layernorm")
        )
        mixed = attention(config, at, turned=turned, qkv_bias=bias, output_bias=bias)
        return Block(attention_norm=before, attention=mixed, mlp_norm=between, mlp=plain_mlp(config, at, bias=config.flag("mlp_bias")))

    return decoder(config, block, norm=lambda name, scale: layer_norm(config, name, hidden, "norm_eps", add=1.0, scale=scale))
