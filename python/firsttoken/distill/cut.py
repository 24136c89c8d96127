"""Cutting a smaller decoder out of a larger one: fewer layers, heads, hidden and MLP channels.

Works on tensors by their names in a checkpoint, so it needs no model code and fits every family that firsttoken
exports. Nothing is recomputed: every weight of the student is one of the teacher's.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from firsttoken.decoder.config import DecoderConfig
from firsttoken.decoder.families import parameter_count
from firsttoken.distill.importance import Importance
from firsttoken.distill.recipe import Cut
from firsttoken.errors import FirstTokenError

SIZES = ("layers", "hidden_size", "heads", "kv_heads", "intermediate_size")
FRACTIONS = 64  # how finely a step's length is searched


@dataclass(frozen=True)
class Sizes:
    """The sizes that a cut changes."""

    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    intermediate_size: int

    def __str__(self) -> str:
        return ", ".join(f"{name} {getattr(self, name)}" for name in SIZES)


@dataclass(frozen=True)
class Kept:
    """Indices that stay, each sorted: ``layers`` of the model, ``hidden`` channels, and per old layer its parts."""

    layers: list[int]
    hidden: Tensor
    heads: list[Tensor]
    kv_heads: list[Tensor]
    mlp: list[Tensor]


def sizes_of(config: DecoderConfig) -> Sizes:
    """The sizes of a decoder."""
    return Sizes(config.layer_count, config.hidden_size, config.head_count, config.kv_head_count, config.mlp_size)


def with_sizes(config: DecoderConfig, sizes: Sizes) -> DecoderConfig:
    """The same decoder with other sizes; the size of a head stays."""
    return replace(
        config,
        layer_count=sizes.layers,
        hidden_size=sizes.hidden_size,
        head_count=sizes.heads,
        kv_head_count=sizes.kv_heads,
        mlp_size=sizes.intermediate_size,
    )


def target_sizes(config: DecoderConfig, cut: Cut) -> Sizes:
    """What the recipe asks for. Raises `FirstTokenError` for a size above the teacher's, or heads that do not share evenly."""
    now = sizes_of(config)
    wanted = {name: getattr(now, name) if getattr(cut, name) is None else getattr(cut, name) for name in SIZES}
    for name, size in wanted.items():
        if size > getattr(now, name):
            raise FirstTokenError(
                f"student.cut.{name} is {size}, but the teacher has only {getattr(now, name)}; a cut can only make it smaller"
            )
    if wanted["heads"] % wanted["kv_heads"]:
        raise FirstTokenError(
            f"student.cut: {wanted['heads']} heads cannot share {wanted['kv_heads']} kv_heads evenly; expected a multiple"
        )
    if wanted["heads"] // wanted["kv_heads"] > now.heads // now.kv_heads:
        raise FirstTokenError(
            f"student.cut: {wanted['heads']} heads over {wanted['kv_heads']} kv_heads are more per group than the teacher's {now.heads} over {now.kv_heads}; "
            "keep more kv_heads or fewer heads"
        )
    return Sizes(**wanted)


def plan_steps(config: DecoderConfig, goal: Sizes, most: float) -> list[Sizes]:
    """Returns the sizes after every step on the way to ``goal``, none taking more than the share ``most`` of what is left.

    Raises `FirstTokenError` where one layer or head alone is more than that.
    """
    now, steps = sizes_of(config), []
    while now != goal:
        size = parameter_count(with_sizes(config, now))
        fits = [s for s in candidates(now, goal) if s != now and 1 - parameter_count(with_sizes(config, s)) / size <= most]
        if not fits:
            least = min(1 - parameter_count(with_sizes(config, s)) / size for s in candidates(now, goal) if s != now)
            raise FirstTokenError(
                f"student.cut: from {now} to {goal}, the smallest possible step takes {least:.1%} of the parameters; most_per_step is {most:.1%}, "
                f"give {least:.3f} or more, or cut widths instead of layers"
            )
        now = min(fits, key=lambda s: parameter_count(with_sizes(config, s)))
        steps.append(now)
    return steps


def candidates(now: Sizes, goal: Sizes) -> list[Sizes]:
    """Sizes between two, from the whole way to the smallest step: all sizes together, then each alone."""
    found = [between(now, goal, n / FRACTIONS) for n in range(FRACTIONS, 0, -1)]
    for name in ("layers", "hidden_size", "intermediate_size"):
        if getattr(now, name) != getattr(goal, name):
            found.append(replace(now, **{name: getattr(now, name) - 1}))
    return found


def between(now: Sizes, goal: Sizes, share: float) -> Sizes:
    """``share`` of the way from one to the other, rounded up, with heads that divide evenly."""

    def size(name: str) -> int:
        a, b = getattr(now, name), getattr(goal, name)
        return b if share == 1 else a - int((a - b) * share)

    kv, group = size("kv_heads"), now.heads // now.kv_heads
    goal_group = goal.heads // goal.kv_heads
    group = goal_group if share == 1 else group - int((group - goal_group) * share)
    return Sizes(size("layers"), size("hidden_size"), kv * group, kv, size("intermediate_size"))


def choose(importance: Importance, now: Sizes, goal: Sizes) -> Kept:
    """Picks the most important parts. Key/value heads go with their group of query heads; each kept group loses equally many."""
    group_now, group_goal = now.heads // now.kv_heads, goal.heads // goal.kv_heads
    heads, kv_heads = [], []
    for row in importance.heads:
        grouped = row.reshape(now.kv_heads, group_now)
        best, inside = grouped.topk(group_goal, dim=1)
        kv = best.sum(1).topk(goal.kv_heads).indices.sort().values
        kv_heads.append(kv)
        heads.append((kv[:, None] * group_now + inside[kv].sort(1).values).flatten())
    return Kept(
        layers=sorted(importance.layers.topk(goal.layers).indices.tolist()),
        hidden=importance.hidden.topk(goal.hidden_size).indices.sort().values,
        heads=heads,
        kv_heads=kv_heads,
        mlp=[row.topk(goal.intermediate_size).indices.sort().values for row in importance.mlp],
    )


def cut_tensors(tensors: dict[str, Tensor], kept: Kept, head_dim: int) -> dict[str, Tensor]:
    """Returns the tensors of the student. Raises `FirstTokenError` for a tensor that has no place in a decoder."""
    made = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if parts[:2] == ["model", "layers"]:
            old = int(parts[2])
            if old not in kept.layers:
                continue
            parts[2] = str(kept.layers.index(old))
            tensor = cut_layer(".".join(parts[3:]), tensor, old, kept, head_dim)
        elif name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensor = tensor[:, kept.hidden]
        elif name == "model.norm.weight":
            tensor = tensor[kept.hidden]
        elif not name.endswith("rotary_emb.inv_freq"):
            raise FirstTokenError(f"tensor {name!r} has no place in a decoder of the Llama family tree; it cannot be cut")
        made[".".join(parts)] = tensor.clone()
    return made


def cut_layer(name: str, tensor: Tensor, layer: int, kept: Kept, head_dim: int) -> Tensor:
    """Cuts one tensor of one layer, by its name inside the layer."""
    rows = {"q_proj": lambda: of_heads(kept.heads[layer], head_dim), "k_proj": lambda: of_heads(kept.kv_heads[layer], head_dim)}
    rows["v_proj"] = rows["k_proj"]
    rows["gate_proj"] = rows["up_proj"] = lambda: kept.mlp[layer]
    columns = {"o_proj": lambda: of_heads(kept.heads[layer], head_dim), "down_proj": lambda: kept.mlp[layer]}
    module, _, kind = name.rpartition(".")
    module = module.rpartition(".")[2]
    if module in rows:
        tensor = tensor[rows[module]()]
        return tensor[:, kept.hidden] if kind == "weight" else tensor
    if module in columns:
        return tensor[kept.hidden][:, columns[module]()] if kind == "weight" else tensor[kept.hidden]
    if module in ("input_layernorm", "post_attention_layernorm"):
        return tensor[kept.hidden]
    if module in ("q_norm", "k_norm"):
        return tensor
    raise FirstTokenError(f"tensor {name!r} of layer {layer} has no place in a decoder of the Llama family tree; it cannot be cut")


def of_heads(heads: Tensor, head_dim: int) -> Tensor:
    """Rows of the given heads."""
    return (heads[:, None] * head_dim + torch.arange(head_dim)).flatten()


def cut_config(config: dict, kept: Kept, goal: Sizes, head_dim: int) -> dict:
    """Returns ``config.json`` of the student: the teacher's with the new sizes, and the size of a head said outright."""
    made = dict(config)
    made.update(
        num_hidden_layers=goal.layers,
        hidden_size=goal.hidden_size,
        num_attention_heads=goal.heads,
        num_key_value_heads=goal.kv_heads,
        intermediate_size=goal.intermediate_size,
        head_dim=head_dim,
    )
    if isinstance(config.get("layer_types"), list):
        made["layer_types"] = [config["layer_types"][n] for n in kept.layers]
    if "max_window_layers" in config:
        made["max_window_layers"] = goal.layers
    return made
