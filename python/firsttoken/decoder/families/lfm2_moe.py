"""LFM2 with experts (LFM2-8B-A1B): LFM2's layers, past the first few with an MLP of experts chosen by a sigmoid and a stored bias."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import gated_mlp
from firsttoken.decoder.families.experts import expert_counts, expert_mlp, router_weight
from firsttoken.decoder.families.lfm2 import lfm2_decoder
from firsttoken.decoder.parts import Decoder, Mlp, Router
from firsttoken.errors import FirstTokenError
from firsttoken.weight_source import Source

MODELS = "LFM2-8B-A1B (every expert is computed)"
NAMES = ("w1", "w3", "w2")  # gate, up, down


def describe(config: Config) -> Decoder:
    (experts, chosen), first = expert_counts(config, 32, 4), dense_layers(config)
    biased, factor = config.flag("use_expert_bias", True), config.number("routed_scaling_factor", 1.0)
    divided, size = config.flag("norm_topk_prob", True), config.size("moe_intermediate_size", 1792)
    dense = config.size("intermediate_size", 7168)  # as it is: LFM2's adjustment is not done here
    config.get("output_router_logits")
    if config.get("layer_types") is None:
        raise FirstTokenError(
            'config.json: layer_types is missing; expected "full_attention" or "conv" for each layer of a lfm2_moe decoder'
        )
    if not experts and first < config.size("num_hidden_layers"):
        raise FirstTokenError("config.json: num_experts is 0, but num_dense_layers leaves layers for experts; expected at least 1")

    def mlp(number: int, at: str) -> Mlp:
        if number < first:
            return gated_mlp(config, at, names=NAMES, group="feed_forward", size=dense, act="silu")
        group = f"{at}.feed_forward"
        router = Router(
            router_weight(group),
            experts,
            config.size("hidden_size"),
            chosen,
            "sigmoid",
            bias=Source(f"{group}.expert_bias") if biased else None,
            divided=divided,
            epsilon=1e-6,
            factor=factor,
        )
        return expert_mlp(config, group, router, names=NAMES, size=size, act="silu")

    return lfm2_decoder(config, mlp)


def dense_layers(config: Config) -> int:
    """How many of the first layers have no experts. Raises `FirstTokenError`."""
    value = config.get("num_dense_layers", 2)
    if type(value) is not int or value < 0:
        raise FirstTokenError(f"config.json: num_dense_layers is {value!r}; expected a whole number, at least 0")
    return value
