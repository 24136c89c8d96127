"""Command R7B: attention and MLP side by side behind one LayerNorm, layers that see all without positions (arXiv 2504.00698)."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import Turning, attention, decoder, gated_mlp, layer_norm, sliding_windows, turning
from firsttoken.decoder.parts import Block, Decoder, Norm

MODELS = "Command R7B, Aya Expanse"


def describe(config: Config) -> Decoder:
    windows = sliding_windows(config, every=config.get("sliding_window_pattern", 4))
    bias, turned = config.flag("attention_bias"), turning(config, pairs=True)
    for key in ("order_of_interleaved_layers", "position_embedding_type", "rotary_pct", "use_embedding_sharing", "use_gated_activation",
                "use_parallel_block", "use_parallel_embedding", "use_qk_norm", "layer_switch", "cache_implementation"):  # fmt: skip
        config.get(key)

    def block(number: int, at: str) -> Block:
        how = Turning(None) if windows[number] is None else turned
        mixed = attention(config, at, turned=how, qkv_bias=bias, output_bias=bias, window=windows[number])
        return Block(attention_norm=plain_norm(config, f"{at}.input_layernorm"), attention=mixed, mlp=gated_mlp(config, at), parallel=True)

    logit_scale = config.number("logit_scale", 0.0625)
    return decoder(config, block, norm=lambda name, scale: plain_norm(config, name, scale), tied=True, logit_scale=logit_scale)


def plain_norm(config: Config, name: str, scale: float = 1.0) -> Norm:
    """A LayerNorm without bias."""
    return layer_norm(config, name, config.size("hidden_size"), "layer_norm_eps", bias=False, scale=scale)
