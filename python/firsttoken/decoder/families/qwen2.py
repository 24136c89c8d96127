"""Qwen2: biases on queries, keys and values; a sliding window only where ``use_sliding_window`` says so."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, pre_norm_block, sliding_windows
from firsttoken.decoder.parts import Block, Decoder

MODELS = "Qwen2, Qwen2.5, DeepSeek-R1-Distill-Qwen"


def describe(config: Config) -> Decoder:
    windows = qwen_windows(config)

    def block(number: int, at: str) -> Block:
        return pre_norm_block(config, at, attention(config, at, qkv_bias=True, window=windows[number]), gated_mlp(config, at))

    return decoder(config, block)


def qwen_windows(config: Config) -> list[int | None]:
    """The window of every layer: of those past the first ``max_window_layers`` where ``layer_types`` does not say."""
    used, kinds = config.flag("use_sliding_window"), config.get("layer_types")
    config.get("max_window_layers")  # says nothing where layer_types does, or no window is used
    windows = sliding_windows(config, used)
    if not used or kinds is not None:
        return windows
    first = config.size("max_window_layers", 28)
    return [window if number >= first else None for number, window in enumerate(windows)]
