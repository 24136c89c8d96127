"""MLPs of experts as checkpoints on the hub store them: a tensor for each expert's gate, up and down, and one for the router."""

from firsttoken.decoder.config_json import Config
from firsttoken.decoder.parts import Linear, Mlp, Router
from firsttoken.errors import FirstTokenError
from firsttoken.weight_source import Source, Stack

MOST_COLUMNS = 1 << 19  # of what all experts of a layer have between up and down


def expert_counts(config: Config, default: int, default_chosen: int) -> tuple[int, int]:
    """How many experts a layer has and how many of them a token takes; no experts at all are 0. Raises `FirstTokenError`."""
    given = {key: config.get(key) for key in ("num_experts", "num_local_experts")}  # the second is how transformers saves the first
    if None not in given.values() and len(set(given.values())) > 1:
        raise FirstTokenError(
            f"config.json: num_experts is {given['num_experts']!r}, but num_local_experts {given['num_local_experts']!r}; they are two names for one number"
        )
    if 0 in given.values():
        config.get("num_experts_per_tok")
        return 0, 0
    key = "num_local_experts" if given["num_experts"] is None else "num_experts"
    experts, chosen = config.size(key, default), config.size("num_experts_per_tok", default_chosen)
    if chosen > experts:
        raise FirstTokenError(f"config.json: num_experts_per_tok is {chosen}; expected at most the {experts} of {key}")
    return experts, chosen


def expert_mlp(config: Config, group: str, router: Router, *, names: tuple[str, str, str], size: int, act: str) -> Mlp:
    """The experts under ``group`` + ``.experts.N``, each ``size`` wide, with ``names`` of gate, up and down. Raises `FirstTokenError`."""
    hidden, count = config.size("hidden_size"), router.experts
    if count * size > MOST_COLUMNS:
        raise FirstTokenError(
            f"config.json: {count} experts of {size} are {count * size} columns together; expected at most {MOST_COLUMNS}"
        )
    gate, up, down = (Stack(f"{group}.experts.{{}}.{name}.weight", count=count, beside=name == names[2]) for name in names)
    wide = count * size
    return Mlp(Linear(gate, wide, hidden), Linear(up, wide, hidden), Linear(down, hidden, wide), act, router)


def router_weight(group: str) -> Source:
    """Where the router of the experts under ``group`` is stored."""
    return Source(f"{group}.gate.weight")
