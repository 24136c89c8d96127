"""Gemma: Llama with norms whose weights are stored less 1 and an embedding times the root of its size (arXiv 2403.08295)."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, rms_norm
from firsttoken.decoder.parts import Block, Decoder

MODELS = "Gemma"


def describe(config: Config) -> Decoder:
    hidden, bias = config.size("hidden_size"), config.flag("attention_bias")
    for key in ("hidden_act", "hidden_activation"):
        config.get(key)  # whatever they name, transformers computes GELU by tanh

    def block(_: int, at: str) -> Block:
        before, between = (rms_norm(config, f"{at}.{name}", hidden, add=1.0) for name in ("input_layernorm", "post_attention_layernorm"))
        mixed = attention(config, at, qkv_bias=bias, output_bias=bias)
        return Block(attention_norm=before, attention=mixed, mlp_norm=between, mlp=gated_mlp(config, at, act="gelu_tanh"))

    return decoder(
        config, block, norm=lambda name, scale: rms_norm(config, name, hidden, add=1.0, scale=scale), tied=True,
        embedding_scale=float(hidden**0.5),
    )  # fmt: skip
