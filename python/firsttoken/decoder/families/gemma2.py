"""Gemma 2: norms before and after, whose weights are stored less 1, caps on scores and logits, every other layer in a window (arXiv 2408.00118)."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import activation, attention, decoder, gated_mlp, rms_norm, sliding_windows
from firsttoken.decoder.parts import Attention, Block, Decoder, Mlp
from firsttoken.errors import FirstTokenError

MODELS = "Gemma 2"
NORMS = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")


def describe(config: Config) -> Decoder:
    windows = sliding_windows(config, every=2)
    bias, cap = config.flag("attention_bias"), softcap(config, "attn_logit_softcapping", 50.0)

    def block(number: int, at: str) -> Block:
        mixed = attention(config, at, qkv_bias=bias, output_bias=bias, scale=query_scale(config), window=windows[number], softcap=cap)
        return four_norm_block(config, at, mixed, gemma_mlp(config, at))

    return gemma_decoder(config, block, softcap(config, "final_logit_softcapping", 30.0))


def softcap(config: Config, key: str, default: float | None) -> float | None:
    """A cap, None where the key is null."""
    if config.has(key) and config.get(key) is None:
        return None
    return None if default is None and config.get(key) is None else config.number(key, default or 0.0)


def query_scale(config: Config) -> float:
    return float(config.number("query_pre_attn_scalar", 256) ** -0.5)


def gemma_mlp(config: Config, at: str) -> Mlp:
    act = activation(config, "hidden_activation", "gelu_pytorch_tanh")
    config.get("hidden_act")  # Gemma's first releases name a function there that no one computes
    return gated_mlp(config, at, act=act)


def four_norm_block(config: Config, at: str, attention: Attention, mlp: Mlp) -> Block:
    """Attention and MLP, each between two RMSNorms whose weights are stored less 1."""
    before, after, before_mlp, after_mlp = (rms_norm(config, f"{at}.{name}", config.size("hidden_size"), add=1.0) for name in NORMS)
    return Block(
        attention_norm=before, attention=attention, attention_output_norm=after, mlp_norm=before_mlp, mlp=mlp, mlp_output_norm=after_mlp
    )


def gemma_decoder(config: Config, block, cap: float | None) -> Decoder:  # type: ignore[no-untyped-def]
    """Gemma's ends: the embedding times the root of its size, a tied head, a final norm whose weight is stored less 1."""
    if config.flag("use_bidirectional_attention"):
        raise FirstTokenError("config.json: use_bidirectional_attention: an encoder, not a decoder that writes text; nothing is exported")
    hidden = config.size("hidden_size")
    return decoder(
        config, block, norm=lambda name, scale: rms_norm(config, name, hidden, add=1.0, scale=scale), tied=True,
        embedding_scale=float(hidden**0.5), softcap=cap,
    )  # fmt: skip
