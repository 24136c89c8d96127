"""SmolLM3: Llama with layers that know no positions, every fourth by default (arXiv 2501.18795)."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import Turning, attention, decoder, gated_mlp, pre_norm_block, sliding_windows, turning
from firsttoken.decoder.parts import Block, Decoder

MODELS = "SmolLM3"


def describe(config: Config) -> Decoder:
    windows = sliding_windows(config, config.flag("use_sliding_window"))
    turned, with_positions = turning(config, theta=2_000_000.0), layers_with_positions(config)

    def block(number: int, at: str) -> Block:
        bias = config.flag("attention_bias")
        how = turned if with_positions[number] else Turning(None)
        mixed = attention(config, at, turned=how, qkv_bias=bias, output_bias=bias, window=windows[number])
        return pre_norm_block(config, at, mixed, gated_mlp(config, at, bias=config.flag("mlp_bias")))

    return decoder(config, block, tied=True)


def layers_with_positions(config: Config) -> list[bool]:
    """Whether each layer turns its heads; a 1 in ``no_rope_layers`` says that it does."""
    count = config.size("num_hidden_layers")
    every = config.size("no_rope_layer_interval", 4)
    listed = config.numbers("no_rope_layers", count)
    return [bool(one) for one in listed] if listed else [(number + 1) % every != 0 for number in range(count)]
