"""EXAONE 4: norms after attention and MLP and over heads; in the hybrid models layers that see all know no positions (arXiv 2507.11407)."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import (
    Turning,
    attention,
    decoder,
    gated_mlp,
    head_norms,
    post_norm_block,
    sliding_windows,
    turning,
)
from firsttoken.decoder.parts import Block, Decoder

MODELS = "EXAONE 4"


def describe(config: Config) -> Decoder:
    pattern = config.get("sliding_window_pattern", 4)
    every = pattern if isinstance(pattern, int) else len(pattern)  # "LLLG": the last of every four
    hybrid = not config.has("sliding_window") or config.get("sliding_window") is not None
    windows, turned = sliding_windows(config, hybrid, every), turning(config)

    def block(number: int, at: str) -> Block:
        how = Turning(None) if hybrid and windows[number] is None else turned
        return post_norm_block(
            config, at, attention(config, at, turned=how, window=windows[number], norms=head_norms(config, at)), gated_mlp(config, at)
        )

    return decoder(config, block)
