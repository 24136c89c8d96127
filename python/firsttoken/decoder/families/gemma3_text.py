"""Gemma 3: five layers of six in a window with a rotation of their own, norms of query and key heads (arXiv 2503.19786)."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, head_norms, sliding_windows, turning
from firsttoken.decoder.families.gemma2 import four_norm_block, gemma_decoder, gemma_mlp, query_scale, softcap
from firsttoken.decoder.parts import Block, Decoder

MODELS = "Gemma 3 270M and 1B, FunctionGemma"


def describe(config: Config) -> Decoder:
    every = config.get("sliding_window_pattern", config.get("_sliding_window_pattern", 6))
    windows = sliding_windows(config, every=every)
    bias = config.flag("attention_bias")
    whole = turning(config, kind="full_attention", theta=1_000_000.0) if nested(config) else turning(config, theta=1_000_000.0)
    local = turning(LocalRotation(config), kind="sliding_attention")
    cap = softcap(config, "attn_logit_softcapping", None)

    def block(number: int, at: str) -> Block:
        mixed = attention(
            config, at, turned=whole if windows[number] is None else local, qkv_bias=bias, output_bias=bias, scale=query_scale(config),
            window=windows[number], softcap=cap, norms=head_norms(config, at, add=1.0),
        )  # fmt: skip
        return four_norm_block(config, at, mixed, gemma_mlp(config, at))

    return gemma_decoder(config, block, softcap(config, "final_logit_softcapping", None))


def nested(config: Config) -> bool:
    """Whether the rotation's parameters stand by kind of layer."""
    return isinstance(config.get("rope_parameters"), dict) and any(isinstance(v, dict) for v in config.get("rope_parameters").values())


class LocalRotation(Config):
    """The configuration as a layer in a window reads its rotation: before ``rope_parameters`` stood by kind of layer, its base was
    ``rope_local_base_freq`` and nothing scaled it."""

    def __init__(self, config: Config) -> None:
        self.values, self.read = config.values, config.read
        self.old = not nested(config)

    def get(self, key, default=None):  # type: ignore[no-untyped-def]
        if self.old and key in ("rope_scaling", "rope_parameters"):
            return {}
        if key == "rope_theta":
            return super().get("rope_local_base_freq", 10_000.0)
        return super().get(key, default)
