"""Ministral 3: Mistral whose queries grow with the position, from the original context on; up to there they do not."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, max_positions, pre_norm_block, sliding_windows, turning
from firsttoken.decoder.parts import Block, Decoder
from firsttoken.decoder.rope import parameters
from firsttoken.errors import FirstTokenError

MODELS = "Ministral 3 (saved without its vision part)"
GROWTH = "llama_4_scaling_beta"


def describe(config: Config) -> Decoder:
    window = config.get("sliding_window") is not None
    windows = sliding_windows(config, used=window)
    turned = turning(config, own=(GROWTH, "max_position_embeddings"))
    most, scaling = max_positions(config), parameters(config)
    if scaling.get(GROWTH):
        original = scaling.get("original_max_position_embeddings")
        if not isinstance(original, int) or original < 1:
            raise FirstTokenError(
                f"config.json: {GROWTH} without original_max_position_embeddings, from which it counts (got {original!r})"
            )
        most = min(most, original)

    def block(number: int, at: str) -> Block:
        return pre_norm_block(config, at, attention(config, at, turned=turned, window=windows[number]), gated_mlp(config, at))

    return decoder(config, block, positions=most)
