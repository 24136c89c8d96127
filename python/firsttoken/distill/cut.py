"""Cutting a smaller decoder out of a larger one: fewer layers, heads, hidden and MLP channels.

Works on the parts of the decoder's tree, so it needs no model code and fits every family that is described with them.
Nothing is recomputed: every weight of the student is one of the teacher's.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from firsttoken.decoder.parts import Core, Decoder
from firsttoken.decoder.walk import leaves
from firsttoken.decoder.walk import tensors as sources
from firsttoken.distill.cut_sizes import Sizes, head_dim
from firsttoken.distill.importance import Importance, taken
from firsttoken.errors import FirstTokenError


@dataclass(frozen=True)
class Kept:
    """Indices that stay, each sorted: ``layers`` of the model, ``hidden`` channels, and per old layer its parts."""

    layers: list[int]
    hidden: Tensor
    heads: list[Tensor]
    kv_heads: list[Tensor]
    mlp: list[Tensor]


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


def cut_tensors(tensors: dict[str, Tensor], teacher: Decoder, student: Decoder, kept: Kept) -> dict[str, Tensor]:
    """Returns the tensors of the student, by their names in a checkpoint. Raises `FirstTokenError` for one that has no place in a decoder."""
    known = {source.name for source, _ in sources(teacher)}
    for name in tensors:
        if name not in known and not name.endswith("rotary_emb.inv_freq"):
            raise FirstTokenError(f"tensor {name!r} has no place in a {teacher.family} decoder; it cannot be cut")
    theirs = dict(leaves(teacher))
    made: dict[str, Tensor] = {}
    rows_of: dict[str, int] = {}
    for place, shape in sources(student):
        end = place.rows[1] if place.rows else shape[0]
        rows_of[place.name] = max(rows_of.get(place.name, 0), end)
    for name, part in leaves(student):
        if isinstance(part, Core):
            continue
        path, layer = teacher_name(name, kept)
        rows, columns = kept_of(path, layer, kept, head_dim(teacher))
        for field in ("weight", "bias"):
            source, target = getattr(theirs[path], field, None), getattr(part, field, None)
            if source is None or target is None:
                continue
            piece = taken(tensors[source.name], source)
            piece = piece if rows is None else piece[rows]
            if field == "weight" and columns is not None:
                piece = piece[:, columns]
            whole = made.setdefault(target.name, piece.new_empty(rows_of[target.name], *piece.shape[1:]))
            taken(whole, target, piece)
    return made


def teacher_name(name: str, kept: Kept) -> tuple[str, int]:
    """The teacher's name of a student's part, and its old layer (-1 outside the layers)."""
    if not name.startswith("layers."):
        return name, -1
    _, number, rest = name.split(".", 2)
    old = kept.layers[int(number)]
    return f"layers.{old}.{rest}", old


def kept_of(path: str, layer: int, kept: Kept, head_dim: int) -> tuple[Tensor | None, Tensor | None]:
    """Rows and columns that a part keeps, None for all; a norm has rows only."""
    within = path.split(".", 2)[2] if layer >= 0 else path
    if within in ("embedding", "head"):
        return None, kept.hidden
    if within in ("norm", "attention_norm", "mlp_norm"):
        return kept.hidden, None
    if within == "attention.q":
        return of_heads(kept.heads[layer], head_dim), kept.hidden
    if within in ("attention.k", "attention.v"):
        return of_heads(kept.kv_heads[layer], head_dim), kept.hidden
    if within == "attention.output":
        return kept.hidden, of_heads(kept.heads[layer], head_dim)
    if within in ("mlp.gate", "mlp.up"):
        return kept.mlp[layer], kept.hidden
    if within == "mlp.down":
        return kept.hidden, kept.mlp[layer]
    if within in ("attention.q_norm", "attention.k_norm"):
        return None, None
    raise FirstTokenError(f"{path!r} is a part that cannot be cut; leave the sizes it depends on as they are")


def of_heads(heads: Tensor, head_dim: int) -> Tensor:
    """Rows of the given heads."""
    return (heads[:, None] * head_dim + torch.arange(head_dim)).flatten()
