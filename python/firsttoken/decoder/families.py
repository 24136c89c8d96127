"""The supported model families: how each one's ``config.json`` maps to a `DecoderConfig`, and its tensor names.

Adding a family is an entry in `FAMILIES` and a line in the parity test against transformers.
"""

import math
from collections.abc import Iterator

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.config import DecoderConfig, Layer
from firsttoken.decoder.rope import rope_from_config
from firsttoken.errors import FirstTokenError, nearest

# What a family decides by itself; True/False, or the name of the config.json switch.
FAMILIES = {
    "llama": {"qkv_bias": "attention_bias", "output_bias": "attention_bias", "mlp_bias": "mlp_bias", "qk_norm": False},
    "mistral": {"qkv_bias": False, "output_bias": False, "mlp_bias": False, "qk_norm": False},
    "qwen2": {"qkv_bias": True, "output_bias": False, "mlp_bias": False, "qk_norm": False},
    "qwen3": {"qkv_bias": "attention_bias", "output_bias": "attention_bias", "mlp_bias": False, "qk_norm": True},
}
DESCRIBED = "llama (Llama 2 and 3, SmolLM, DeepSeek-R1-Distill-Llama), mistral, qwen2 (Qwen2, Qwen2.5, DeepSeek-R1-Distill-Qwen), qwen3"
# Far above any model for phones; a larger value is a damaged or hostile file.
LIMITS = {
    "hidden_size": 1 << 16,
    "num_hidden_layers": 1024,
    "num_attention_heads": 1024,
    "num_key_value_heads": 1024,
    "head_dim": 1024,
    "max_window_layers": 1024,
    "intermediate_size": 1 << 19,
    "vocab_size": 1 << 22,
    "max_position_embeddings": 1 << 27,
}


def read_config(config: dict) -> DecoderConfig:
    """Maps a Hugging Face ``config.json`` to a `DecoderConfig`.

    Raises `FirstTokenError` naming what is not supported (model_type, activation, rope kind, remote code) or absurd.
    """
    family = config.get("model_type")
    if config.get("auto_map"):
        raise FirstTokenError(
            f"config.json: needs code from the model's author (auto_map), which firsttoken never runs; supported families: {DESCRIBED}"
        )
    if not isinstance(family, str) or family not in FAMILIES:
        raise FirstTokenError(
            f"config.json: model_type {family!r} is not supported{nearest(str(family), FAMILIES)}; expected one of: {DESCRIBED}"
        )
    if config.get("quantization_config"):
        raise FirstTokenError("config.json: the checkpoint is already quantized (quantization_config); export from the original weights")
    activation = config.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise FirstTokenError(f"config.json: hidden_act {activation!r} is not supported; expected 'silu'")
    if config.get("pretraining_tp", 1) not in (1, None):
        raise FirstTokenError("config.json: pretraining_tp other than 1 is not supported")
    switches = {name: bool(config.get(rule, False)) if isinstance(rule, str) else rule for name, rule in FAMILIES[family].items()}
    hidden, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    kv_heads = _size(config, "num_key_value_heads", heads)
    head_dim = _size(config, "head_dim", max(1, hidden // heads))
    if heads % kv_heads:
        raise FirstTokenError(f"config.json: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}")
    if config.get("head_dim") is None and hidden % heads:
        raise FirstTokenError(
            f"config.json: hidden_size {hidden} is not a multiple of num_attention_heads {heads} and no head_dim is given"
        )
    if head_dim % 2:
        raise FirstTokenError(f"config.json: head_dim {head_dim} is odd; rotary position embedding needs pairs")
    epsilon = config.get("rms_norm_eps", 1e-6)
    if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)) or not 0 < epsilon < 1:
        raise FirstTokenError(f"config.json: rms_norm_eps is {epsilon!r}; expected a number between 0 and 1")
    positions = _size(config, "max_position_embeddings", 2048)
    return DecoderConfig(
        family=family,
        hidden_size=hidden,
        layer_count=_size(config, "num_hidden_layers"),
        head_count=heads,
        kv_head_count=kv_heads,
        head_dim=head_dim,
        mlp_size=_size(config, "intermediate_size"),
        vocab_size=_size(config, "vocab_size"),
        norm_epsilon=float(epsilon),
        rope=rope_from_config(config, head_dim, positions),
        max_positions=positions,
        tied_head=bool(config.get("tie_word_embeddings", False)),
        sliding_window=_sliding_window(config, family),
        **switches,
    )


def _size(config: dict, key: str, default: int | None = None) -> int:
    value = config.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LIMITS[key]:
        raise FirstTokenError(f"config.json: {key} is {value!r}; expected a whole number from 1 to {LIMITS[key]}")
    return value


def _sliding_window(config: dict, family: str) -> int | None:
    """The window in tokens where one is in use, by the families' own rules; transformers' default where the key is absent."""
    window = config.get("sliding_window", 4096)
    if family == "llama" or window is None:
        return None
    kinds = config.get("layer_types")
    if family in ("qwen2", "qwen3"):
        used = bool(config.get("use_sliding_window", False))
        if used and kinds is None:
            used = _size(config, "max_window_layers", 28) < _size(config, "num_hidden_layers")
    else:
        used = True
    if not used or (isinstance(kinds, list) and "sliding_attention" not in kinds):
        return None
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise FirstTokenError(f"config.json: sliding_window is {window!r}; expected a positive whole number or null")
    return window


def plan_layers(config: DecoderConfig) -> list[Layer]:
    """Everything a plan can address, in the order of computation."""
    hidden, mlp = config.hidden_size, config.mlp_size
    layers = [Layer("embedding", "embedding", (config.vocab_size, hidden), "model.embed_tokens.weight")]
    for n in range(config.layer_count):
        ours, theirs = f"layers.{n}.", f"model.layers.{n}."
        for name, source, shape, bias in (
            ("attention.q", "self_attn.q_proj", (config.query_size, hidden), config.qkv_bias),
            ("attention.k", "self_attn.k_proj", (config.kv_size, hidden), config.qkv_bias),
            ("attention.v", "self_attn.v_proj", (config.kv_size, hidden), config.qkv_bias),
            ("attention.core", None, None, False),
            ("attention.output", "self_attn.o_proj", (hidden, config.query_size), config.output_bias),
            ("mlp.gate", "mlp.gate_proj", (mlp, hidden), config.mlp_bias),
            ("mlp.up", "mlp.up_proj", (mlp, hidden), config.mlp_bias),
            ("mlp.down", "mlp.down_proj", (hidden, mlp), config.mlp_bias),
        ):
            if source is None:
                layers.append(Layer(ours + name, "core"))
            else:
                layers.append(Layer(ours + name, "linear", shape, f"{theirs}{source}.weight", f"{theirs}{source}.bias" if bias else None))
    head = "model.embed_tokens.weight" if config.tied_head else "lm_head.weight"
    layers.append(Layer("head", "linear", (config.vocab_size, hidden), head))
    return layers


def norm_tensors(config: DecoderConfig) -> Iterator[tuple[str, str, int]]:
    """Yields ``(our name, checkpoint tensor, length)`` of every norm; norms always stay FP32."""
    for n in range(config.layer_count):
        theirs = f"model.layers.{n}."
        yield f"layers.{n}.attention_norm", theirs + "input_layernorm.weight", config.hidden_size
        if config.qk_norm:
            yield f"layers.{n}.attention.q_norm", theirs + "self_attn.q_norm.weight", config.head_dim
            yield f"layers.{n}.attention.k_norm", theirs + "self_attn.k_norm.weight", config.head_dim
        yield f"layers.{n}.mlp_norm", theirs + "post_attention_layernorm.weight", config.hidden_size
    yield "norm", "model.norm.weight", config.hidden_size


def open_decoder(checkpoint: Checkpoint) -> DecoderConfig:
    """Reads the configuration and checks every tensor's name, shape and dtype against it, before any weight is read.

    Raises `FirstTokenError` naming the first tensor that is missing or has another shape than the configuration says.
    """
    config = read_config(checkpoint.config)
    wanted: list[tuple[str, tuple[int, ...]]] = [(tensor, (length,)) for _, tensor, length in norm_tensors(config)]
    for layer in plan_layers(config):
        if layer.weight:
            wanted.append((layer.weight, layer.shape))
        if layer.bias:
            wanted.append((layer.bias, layer.shape[:1]))
    for name, shape in wanted:
        stored = checkpoint.stored(name)
        if stored.shape != tuple(shape):
            raise FirstTokenError(
                f"checkpoint {checkpoint.folder}: tensor {name!r} has shape {list(stored.shape)}, but config.json says {list(shape)}"
            )
    known = {name for name, _ in wanted}
    unused = [name for name in checkpoint.tensors if name not in known and not _known_extra(name, config)]
    if unused:
        raise FirstTokenError(
            f"checkpoint {checkpoint.folder}: tensor {unused[0]!r} has no place in a {config.family} decoder with this config.json "
            f"({len(unused)} such); it would be dropped silently"
        )
    return config


def _known_extra(name: str, config: DecoderConfig) -> bool:
    # Tied models may still store their head; rotary tables are derived from the configuration.
    return (config.tied_head and name == "lm_head.weight") or name.endswith("rotary_emb.inv_freq")


def parameter_count(config: DecoderConfig) -> int:
    """Weights of the model, the tied head counted once."""
    counted = {layer.weight: math.prod(layer.shape) for layer in plan_layers(config) if layer.weight}
    return sum(counted.values()) + sum(length for _, _, length in norm_tensors(config))
