"""What families are composed of: the usual parts, with the names that transformers gives their tensors."""

from collections.abc import Callable

from firsttoken.checkpoint import Source
from firsttoken.decoder.config_json import Config
from firsttoken.decoder.parts import Attention, Block, Core, Decoder, Embedding, Linear, Mlp, Norm
from firsttoken.decoder.rope import rope_from_config
from firsttoken.errors import FirstTokenError

ACTIVATIONS = {"silu": "silu", "swish": "silu"}


def linear(name: str, rows: int, columns: int, bias: bool = False) -> Linear:
    """A linear layer stored as ``name.weight`` and, where it has one, ``name.bias``."""
    return Linear(Source(f"{name}.weight"), rows, columns, Source(f"{name}.bias") if bias else None)


def rms_norm(config: Config, name: str, size: int) -> Norm:
    return Norm(Source(f"{name}.weight"), size, config.fraction("rms_norm_eps", 1e-6))


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


def attention(
    config: Config, at: str, *, qkv_bias: bool = False, output_bias: bool = False, head_norms: bool = False, window: int | None = None
) -> Attention:
    """Grouped-query attention with rotary positions, stored under ``at`` + ``self_attn``."""
    hidden, (heads, kv_heads, dim) = config.size("hidden_size"), head_counts(config)
    name = f"{at}.self_attn"
    return Attention(
        q=linear(f"{name}.q_proj", heads * dim, hidden, qkv_bias),
        k=linear(f"{name}.k_proj", kv_heads * dim, hidden, qkv_bias),
        v=linear(f"{name}.v_proj", kv_heads * dim, hidden, qkv_bias),
        core=Core(heads, kv_heads, dim, dim**-0.5, window),
        output=linear(f"{name}.o_proj", hidden, heads * dim, output_bias),
        rotation=rope_from_config(config, dim, max_positions(config)),
        q_norm=rms_norm(config, f"{name}.q_norm", dim) if head_norms else None,
        k_norm=rms_norm(config, f"{name}.k_norm", dim) if head_norms else None,
    )


def gated_mlp(config: Config, at: str, *, bias: bool = False) -> Mlp:
    """SwiGLU, stored under ``at`` + ``mlp``."""
    asked = config.get("hidden_act", "silu")
    if not isinstance(asked, str) or asked not in ACTIVATIONS:
        raise FirstTokenError(f"config.json: hidden_act {asked!r} is not supported; expected 'silu'")
    hidden, size, name = config.size("hidden_size"), config.size("intermediate_size"), f"{at}.mlp"
    return Mlp(
        gate=linear(f"{name}.gate_proj", size, hidden, bias),
        up=linear(f"{name}.up_proj", size, hidden, bias),
        down=linear(f"{name}.down_proj", hidden, size, bias),
        activation=ACTIVATIONS[asked],
    )


def pre_norm_block(config: Config, at: str, attention: Attention, mlp: Mlp) -> Block:
    """Attention and MLP, each behind an RMSNorm."""
    hidden = config.size("hidden_size")
    return Block(
        rms_norm(config, f"{at}.input_layernorm", hidden), attention, rms_norm(config, f"{at}.post_attention_layernorm", hidden), mlp
    )


def decoder(config: Config, block: Callable[[int, str], Block]) -> Decoder:
    """Embedding, ``block(number, "model.layers.N")`` for every layer, final norm and head."""
    hidden, vocabulary = config.size("hidden_size"), config.size("vocab_size")
    embedding = Embedding(Source("model.embed_tokens.weight"), vocabulary, hidden)
    tied = config.flag("tie_word_embeddings")
    return Decoder(
        family=str(config.get("model_type")),
        embedding=embedding,
        layers=tuple(block(n, f"model.layers.{n}") for n in range(config.size("num_hidden_layers"))),
        norm=rms_norm(config, "model.norm", hidden),
        head=Linear(embedding.weight if tied else Source("lm_head.weight"), vocabulary, hidden),
        max_positions=max_positions(config),
    )


def max_positions(config: Config) -> int:
    return config.size("max_position_embeddings", 2048)


def sliding_windows(config: Config, used: bool = True) -> list[int | None]:
    """The window of every layer in tokens, None where it sees all: ``layer_types`` decides where given, else every layer has it.

    ``used`` false reads the keys and says None throughout. An absent ``sliding_window`` is transformers' default of 4096.
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
        return [window] * count
    return [window if kind == "sliding_attention" else None for kind in kinds]
