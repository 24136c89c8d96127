"""What families are composed of: the usual parts, with the names that transformers gives their tensors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.parts import Attention, Block, Core, Decoder, Embedding, Linear, Mlp, Norm
from firsttoken.decoder.rope import Rope, fixed_positions, rope_from_config, rotary_size, row_order
from firsttoken.errors import FirstTokenError
from firsttoken.weight_source import Source

ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh", "relu2": "relu2"}


def linear(
    name: str,
    rows: int,
    columns: int,
    bias: bool = False,
    *,
    part: tuple[int, int] | None = None,
    order: tuple[int, ...] | None = None,
    scale: float = 1.0,
) -> Linear:
    """A linear layer stored as ``name.weight`` and, where it has one, ``name.bias``.

    ``part``: rows of a matrix that holds several layers; ``order``: how its rows are taken; ``scale``: a factor on what it gives.
    """
    weight, offset = (Source(f"{name}.{kind}", part, order, scale=scale) for kind in ("weight", "bias"))
    return Linear(weight, rows, columns, offset if bias else None)


def rms_norm(config: Config, name: str, size: int, *, add: float = 0.0, scale: float = 1.0, order: tuple[int, ...] | None = None) -> Norm:
    """RMSNorm with ``rms_norm_eps``; ``add`` where the checkpoint stores its weight less that."""
    return Norm(Source(f"{name}.weight", order=order, add=add * scale, scale=scale), size, config.fraction("rms_norm_eps", 1e-6))


def layer_norm(config: Config, name: str, size: int, epsilon: str, *, bias: bool = True, add: float = 0.0, scale: float = 1.0) -> Norm:
    """LayerNorm; ``epsilon`` is the name of its key."""
    offset = Source(f"{name}.bias", scale=scale) if bias else None
    return Norm(Source(f"{name}.weight", add=add * scale, scale=scale), size, config.fraction(epsilon, 1e-5), offset, centred=True)


def head_counts(config: Config) -> tuple[int, int, int]:
    """Returns query heads, key/value heads and head_dim. Raises `FirstTokenError` where they do not fit together."""
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    kv_heads = config.size("num_key_value_heads", heads)
    head_dim = config.size("head_dim", max(1, hidden // heads))
    if heads % kv_heads:
        raise FirstTokenError(f"config.json: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}")
    if config.get("head_dim") is None and hidden % heads:
        raise FirstTokenError(
            f"config.json: hidden_size {hidden} is not a multiple of num_attention_heads {heads} and no head_dim is given"
        )
    if head_dim % 2:
        raise FirstTokenError(f"config.json: head_dim {head_dim} is odd; rotary position embedding needs pairs")
    return heads, kv_heads, head_dim


@dataclass(frozen=True)
class Turning:
    """The rotation of a layer's heads (None: no positions) and in which order their rows are read for it (`rope.row_order`)."""

    rope: Rope | None
    order: tuple[int, ...] | None = None


def turning(
    config: Config, *, pairs: bool = False, rotary: float = 1.0, theta: float = 10_000.0, kind: str | None = None, own: Sequence[str] = ()
) -> Turning:
    """The rotation that ``config`` describes; arguments as in `rope_from_config` and `row_order`."""
    dim = head_counts(config)[2]
    rope = rope_from_config(config, dim, max_positions(config), kind_of_layer=kind, theta=theta, rotary=rotary, own=own)
    return Turning(rope, row_order(dim, rotary_size(config, dim, rotary, kind), pairs))


def attention(
    config: Config,
    at: str,
    *,
    turned: Turning | None = None,
    qkv_bias: bool = False,
    gated: bool = False,
    output_bias: bool = False,
    output_scale: float = 1.0,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    fused: str | None = None,
    output: str = "o_proj",
    norms: Callable[[str, tuple[int, ...] | None], Norm] | None = None,
    norms_follow_rotation: bool = False,
) -> Attention:
    """Grouped-query attention, stored under ``at`` + ``self_attn``.

    ``gated``: the queries' matrix holds a gate too, behind each head's rows. ``fused`` names one matrix that holds queries, keys and values, ``output`` the output projection; ``norms`` makes the norm of "q" or
    "k", given the order of a head's values.
    """
    hidden, (heads, kv_heads, dim) = config.size("hidden_size"), head_counts(config)
    turned = turned or turning(config)
    name, order, rows = f"{at}.self_attn", turned.order, (heads * dim, kv_heads * dim, kv_heads * dim)

    def projection(which: str, number: int) -> Linear:
        begin = sum(rows[:number])
        part = (begin, begin + rows[number]) if fused else None
        own_order = None if which == "v" else order
        if gated and which == "q":
            return every_second(linear(f"{name}.q_proj", rows[0], hidden, qkv_bias), own_order or tuple(range(dim)), 2 * dim)
        return linear(f"{name}.{fused or f'{which}_proj'}", rows[number], hidden, qkv_bias, part=part, order=own_order)

    return Attention(
        q=projection("q", 0),
        k=projection("k", 1),
        v=projection("v", 2),
        gate=every_second(linear(f"{name}.q_proj", rows[0], hidden, qkv_bias), tuple(range(dim, 2 * dim)), 2 * dim) if gated else None,
        core=Core(heads, kv_heads, dim, dim**-0.5 if scale is None else scale, window, softcap),
        output=linear(f"{name}.{output}", hidden, heads * dim, output_bias, scale=output_scale),
        rotation=turned.rope,
        q_norm=norms("q", order) if norms else None,
        k_norm=norms("k", order) if norms else None,
        norms_follow_rotation=norms_follow_rotation,
    )


def every_second(part: Linear, order: tuple[int, ...], period: int) -> Linear:
    """The layer out of a matrix of several, whose rows alternate: of every ``period`` rows those that ``order`` names."""
    bias = None if part.bias is None else replace(part.bias, order=order, period=period)
    return replace(part, weight=replace(part.weight, order=order, period=period), bias=bias)


def head_norms(config: Config, at: str, names: str = "{}_norm", **how: float) -> Callable[[str, tuple[int, ...] | None], Norm]:
    """RMSNorms over every query and key head, stored under ``at`` + ``self_attn``."""
    return lambda which, order: rms_norm(config, f"{at}.self_attn.{names.format(which)}", head_counts(config)[2], order=order, **how)


def projection_norms(config: Config, at: str) -> Callable[[str, tuple[int, ...] | None], Norm]:
    """RMSNorms over all query heads together and over all key heads."""
    heads, kv_heads, dim = head_counts(config)
    sizes = {"q": heads * dim, "k": kv_heads * dim}
    return lambda which, order: rms_norm(config, f"{at}.self_attn.{which}_norm", sizes[which], order=order)


def activation(config: Config, key: str = "hidden_act", default: str = "silu") -> str:
    asked = config.get(key, default)
    if not isinstance(asked, str) or asked not in ACTIVATIONS:
        raise FirstTokenError(f"config.json: {key} {asked!r} is not supported; expected one of {', '.join(map(repr, ACTIVATIONS))}")
    return ACTIVATIONS[asked]


def gated_mlp(
    config: Config,
    at: str,
    *,
    bias: bool = False,
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
    group: str = "mlp",
    size: int | None = None,
    act: str | None = None,
    down_scale: float = 1.0,
) -> Mlp:
    """SwiGLU and its like, stored under ``at`` + ``group``; ``names`` of gate, up and down, where gate and up may be one matrix of both."""
    hidden, size = config.size("hidden_size"), size or config.size("intermediate_size")
    gate, up, down = (f"{at}.{group}.{name}" for name in names)
    both = gate == up
    return Mlp(
        gate=linear(gate, size, hidden, bias, part=(0, size) if both else None),
        up=linear(up, size, hidden, bias, part=(size, 2 * size) if both else None),
        down=linear(down, hidden, size, bias, scale=down_scale),
        activation=act or activation(config),
    )


def plain_mlp(config: Config, at: str, *, bias: bool = False, act: str = "relu2") -> Mlp:
    """``down(activation(up(x)))``, stored under ``at`` + ``mlp``; ``act`` is what ``hidden_act`` is by default."""
    hidden, size, name = config.size("hidden_size"), config.size("intermediate_size"), f"{at}.mlp"
    return Mlp(
        None,
        linear(f"{name}.up_proj", size, hidden, bias),
        linear(f"{name}.down_proj", hidden, size, bias),
        activation(config, default=act),
    )


def pre_norm_block(config: Config, at: str, attention: Attention, mlp: Mlp) -> Block:
    """Attention and MLP, each behind an RMSNorm."""
    hidden = config.size("hidden_size")
    before, between = (rms_norm(config, f"{at}.{name}", hidden) for name in ("input_layernorm", "post_attention_layernorm"))
    return Block(attention_norm=before, attention=attention, mlp_norm=between, mlp=mlp)


def post_norm_block(config: Config, at: str, attention: Attention, mlp: Mlp) -> Block:
    """Attention and MLP, each followed by an RMSNorm before it is added (OLMo 2, arXiv 2501.00656)."""
    hidden = config.size("hidden_size")
    after = [rms_norm(config, f"{at}.{name}", hidden) for name in ("post_attention_layernorm", "post_feedforward_layernorm")]
    return Block(attention=attention, attention_output_norm=after[0], mlp=mlp, mlp_output_norm=after[1])


def decoder(
    config: Config,
    block: Callable[[int, str], Block],
    *,
    norm: Callable[[str, float], Norm] | None = None,
    tied: bool = False,
    embedding_scale: float = 1.0,
    logit_scale: float = 1.0,
    softcap: float | None = None,
    positions: int | None = None,
) -> Decoder:
    """Embedding, ``block(number, "model.layers.N")`` for every layer, final norm and head.

    ``norm`` makes the final norm from its name and a factor on what it gives (default: RMSNorm); ``tied`` is the family's default.
    A tied head is the scaled embedding, so the final norm takes the scale off again.
    """
    hidden, vocabulary = config.size("hidden_size"), config.size("vocab_size")
    embedding = Embedding(Source("model.embed_tokens.weight", scale=embedding_scale), vocabulary, hidden)
    tied = config.flag("tie_word_embeddings", tied)
    norm = norm or (lambda name, scale: rms_norm(config, name, hidden, scale=scale))
    return Decoder(
        family=str(config.get("model_type")),
        embedding=embedding,
        layers=tuple(block(n, f"model.layers.{n}") for n in range(config.size("num_hidden_layers"))),
        norm=norm("model.norm", logit_scale / embedding_scale if tied else 1.0),
        head=Linear(embedding.weight if tied else Source("lm_head.weight", scale=logit_scale), vocabulary, hidden),
        max_positions=positions or fixed_positions(config, max_positions(config)),
        softcap=softcap,
    )


def max_positions(config: Config) -> int:
    return config.size("max_position_embeddings", 2048)


def sliding_windows(config: Config, used: bool = True, every: int | None = None) -> list[int | None]:
    """The window of every layer in tokens, None where it sees all: ``layer_types`` decides where given, else every layer has it.

    ``every``: without ``layer_types``, every so manieth layer sees all. ``used`` false reads the keys and says None throughout. An
    absent ``sliding_window`` is transformers' default of 4096.
    """
    count = config.size("num_hidden_layers")
    window = config.get("sliding_window") if config.has("sliding_window") else 4096
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and len(kinds) != count:
        raise FirstTokenError(f"config.json: layer_types names {len(kinds)} layers; expected {count}, as num_hidden_layers says")
    if not used or window is None or (isinstance(kinds, list) and "sliding_attention" not in kinds):
        return [None] * count
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise FirstTokenError(f"config.json: sliding_window is {window!r}; expected a positive whole number or null")
    if not isinstance(kinds, list):
        return [None if every and (number + 1) % every == 0 else window for number in range(count)]
    return [window if kind == "sliding_attention" else None for kind in kinds]
