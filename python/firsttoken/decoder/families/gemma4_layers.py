"""What differs between Gemma 4's layers: the kind of attention, the sizes of its heads, and whose keys and values it takes."""

from dataclasses import dataclass

from firsttoken.decoder.config_json import Config
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible

SLIDING, FULL = "sliding_attention", "full_attention"
EVERY = 6  # without layer_types, every so manieth layer sees all; the last one does so whatever is written, as transformers has it
OVERRIDES = ("head_dim", "num_key_value_heads")


@dataclass(frozen=True)
class LayerFacts:
    """One layer; ``shares`` is the number of the layer whose keys and values it takes, ``keys_as_values`` that one matrix makes both."""

    kind: str
    heads: int
    kv_heads: int
    head_dim: int
    window: int | None
    shares: int | None
    keys_as_values: bool


def layer_facts(config: Config) -> list[LayerFacts]:
    """Every layer of the configuration. Raises `FirstTokenError` for layers that cannot be made of it."""
    kinds, heads = [*layer_kinds(config, EVERY)[:-1], FULL], config.size("num_attention_heads")
    window, sizes = config.size("sliding_window", 512), head_sizes(config, kinds)
    shared, same = owners(config, kinds), config.flag("attention_k_eq_v")
    found = []
    for number, (kind, (kv_heads, dim)) in enumerate(zip(kinds, sizes, strict=True)):
        check_heads(heads, kv_heads, dim, number)
        owner = shared[number]
        if owner is not None and sizes[owner] != sizes[number]:
            raise FirstTokenError(
                f"config.json: layer {number} takes the keys and values of layer {owner}, whose heads have other sizes; "
                f"got {sizes[number]} and {sizes[owner]} (key/value heads, head_dim)"
            )
        found.append(LayerFacts(kind, heads, kv_heads, dim, window if kind == SLIDING else None, owner, same and kind == FULL))
    return found


def check_heads(heads: int, kv_heads: int, dim: int, number: int) -> None:
    if heads % kv_heads:
        raise FirstTokenError(
            f"config.json: num_attention_heads {heads} is not a multiple of the {kv_heads} key/value heads of layer {number}"
        )
    if dim % 2:
        raise FirstTokenError(f"config.json: head_dim {dim} of layer {number} is odd; rotary position embedding needs pairs")


def layer_kinds(config: Config, every: int) -> list[str]:
    """``layer_types``, or without them one layer that sees all in ``every``."""
    count, kinds = config.size("num_hidden_layers"), config.get("layer_types")
    if kinds is None:
        kinds = [FULL if (number + 1) % every == 0 else SLIDING for number in range(count)]
    if not isinstance(kinds, list) or len(kinds) != count or any(kind not in (SLIDING, FULL) for kind in kinds):
        raise FirstTokenError(
            f"config.json: layer_types is {visible(repr(kinds), 80)}; expected {count} of {SLIDING!r} and {FULL!r}, as num_hidden_layers says"
        )
    return kinds


def head_sizes(config: Config, kinds: list[str]) -> list[tuple[int, int]]:
    """Key/value heads and head_dim of every layer: as ``per_layer_config`` says, or before it was there, by kind."""
    kv_heads, dim = config.size("num_key_value_heads", 4), config.size("head_dim", 256)
    listed = config.get("per_layer_config")
    whole_dim, whole_kv = config.size("global_head_dim", 512), config.get("num_global_key_value_heads")
    if listed is None:
        own = config.size("num_global_key_value_heads") if whole_kv is not None and config.flag("attention_k_eq_v") else kv_heads
        return [(own, whole_dim) if kind == FULL else (kv_heads, dim) for kind in kinds]
    if not isinstance(listed, dict) or not all(isinstance(value, dict) for value in listed.values()):
        raise FirstTokenError(
            f"config.json: per_layer_config is {visible(repr(listed), 80)}; expected an object of objects by layer number"
        )
    sizes = [(kv_heads, dim)] * len(kinds)
    for key, values in listed.items():
        if not key.isdecimal() or int(key) >= len(kinds) or any(name not in OVERRIDES for name in values):
            raise FirstTokenError(
                f"config.json: per_layer_config says {visible(repr({key: values}), 120)}; expected a layer's number with {' and '.join(OVERRIDES)}"
            )
        layer = Config({"num_key_value_heads": kv_heads, "head_dim": dim, **values})
        sizes[int(key)] = layer.size("num_key_value_heads"), layer.size("head_dim")
    return sizes


def owners(config: Config, kinds: list[str], default: int = 0) -> list[int | None]:
    """For the last ``num_kv_shared_layers`` the last layer of their kind before them, None for the others."""
    shared = config.get("num_kv_shared_layers", default)
    if isinstance(shared, bool) or not isinstance(shared, int) or not 0 <= shared < len(kinds):
        raise FirstTokenError(f"config.json: num_kv_shared_layers is {shared!r}; expected a whole number from 0 to {len(kinds) - 1}")
    first = len(kinds) - shared
    last = {kind: number for number, kind in enumerate(kinds[:first])}
    for number in range(first, len(kinds)):
        if kinds[number] not in last:
            raise FirstTokenError(
                f"config.json: layer {number} shares keys and values, but no {kinds[number]} layer before layer {first} has any of its own; "
                "expected layer_types and num_kv_shared_layers that leave one"
            )
    return [last[kind] if number >= first else None for number, kind in enumerate(kinds)]
