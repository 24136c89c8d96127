"""LFM2 (arXiv 2511.23404): most layers mix positions by a short convolution, the others by attention with normed query and key heads."""

from collections.abc import Callable

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.families.compose import attention, decoder, gated_mlp, head_counts, linear, turning
from firsttoken.decoder.parts import Block, Convolution, Decoder, Mlp, Norm, ShortConvolution
from firsttoken.errors import FirstTokenError
from firsttoken.weight_source import Source

MODELS = "LFM2, LFM2.5 (dense)"
# Repeat other keys, or say how weights were drawn before training; transformers reads none of them.
IGNORED = (
    "block_dim", "block_norm_eps", "block_mlp_init_scale", "block_out_init_scale", "block_use_swiglu", "block_use_xavier_init", "conv_dim",
    "conv_dim_out", "conv_use_xavier_init", "num_heads", "theta", "use_pos_enc",
)  # fmt: skip


def describe(config: Config) -> Decoder:
    inner = mlp_size(config)
    for key in IGNORED:
        config.get(key)
    return lfm2_decoder(config, lambda _, at: gated_mlp(config, at, names=("w1", "w3", "w2"), group="feed_forward", size=inner, act="silu"))


def lfm2_decoder(config: Config, mlp: Callable[[int, str], Mlp]) -> Decoder:
    """The decoder with ``mlp(number, "model.layers.N")`` in every layer."""
    kinds, hidden = layer_kinds(config), config.size("hidden_size")
    turned, dim = turning(config, theta=1_000_000.0), head_counts(config)[2]

    def norm(name: str, size: int = hidden, scale: float = 1.0, order: tuple[int, ...] | None = None) -> Norm:
        return Norm(Source(f"{name}.weight", order=order, scale=scale), size, config.fraction("norm_eps", 1e-5))

    def block(number: int, at: str) -> Block:
        before, between = norm(f"{at}.operator_norm"), norm(f"{at}.ffn_norm")
        if kinds[number] == "conv":
            convolution = short_convolution(config, f"{at}.conv")
            return Block(attention_norm=before, convolution=convolution, mlp_norm=between, mlp=mlp(number, at))
        mixed = attention(
            config,
            at,
            turned=turned,
            output="out_proj",
            norms=lambda which, order: norm(f"{at}.self_attn.{which}_layernorm", dim, order=order),
        )
        return Block(attention_norm=before, attention=mixed, mlp_norm=between, mlp=mlp(number, at))

    # tie_embedding is the older name of tie_word_embeddings
    return decoder(config, block, norm=lambda _, scale: norm("model.embedding_norm", scale=scale), tied=config.flag("tie_embedding", True))


def layer_kinds(config: Config) -> list[str]:
    """ "full_attention" or "conv" for every layer. Raises `FirstTokenError` for another kind, or where no layer has attention."""
    count, kinds, attentive = config.size("num_hidden_layers"), config.get("layer_types"), config.get("full_attn_idxs")
    if kinds is None:
        if attentive is not None and not (isinstance(attentive, list) and all(type(n) is int for n in attentive)):
            raise FirstTokenError(f"config.json: full_attn_idxs is {attentive!r}; expected a list of the numbers of layers, or null")
        kinds = ["full_attention" if attentive is None or n in attentive else "conv" for n in range(count)]
    if not isinstance(kinds, list) or len(kinds) != count or any(kind not in ("full_attention", "conv") for kind in kinds):
        raise FirstTokenError(
            f'config.json: layer_types is {kinds!r}; expected "full_attention" or "conv" for each of the {count} layers of num_hidden_layers'
        )
    if "full_attention" not in kinds:
        raise FirstTokenError("config.json: no layer has attention; an lfm2 decoder without any is not supported")
    return kinds


def mlp_size(config: Config) -> int:
    """How wide the MLP is: two thirds of what the configuration says, rounded up to a multiple, unless it says not to adjust it."""
    size = config.size("block_ff_dim", config.size("intermediate_size", 12288))  # the older name decides, as in transformers
    adjusted, by, multiple = (
        config.flag("block_auto_adjust_ff_dim", True),
        config.number("block_ffn_dim_multiplier", 1.0),
        config.size("block_multiple_of", 256),
    )
    if not adjusted:
        return size
    size = int(2 * size / 3)
    # the model's code rounds only where there is a factor, which null takes away
    if config.values.get("block_ffn_dim_multiplier", 1.0) is None:
        return size
    return -(-int(by * size) // multiple) * multiple


def short_convolution(config: Config, at: str) -> ShortConvolution:
    """One matrix holds both gates and the value, in the order in gate, out gate, value."""
    hidden, bias = config.size("hidden_size"), config.flag("conv_bias")
    length = config.size("conv_L_cache", 3)
    if length < 2:
        raise FirstTokenError(f"config.json: conv_L_cache is {length}; expected at least 2, for a convolution over one position is none")
    in_gate, out_gate, value = (linear(f"{at}.in_proj", hidden, hidden, bias, part=(n * hidden, (n + 1) * hidden)) for n in range(3))
    kernel = Convolution(Source(f"{at}.conv.weight"), hidden, length, Source(f"{at}.conv.bias") if bias else None)
    return ShortConvolution(in_gate, out_gate, value, kernel, linear(f"{at}.out_proj", hidden, hidden, bias))
