"""A checkpoint whose layers hand smaller outliers to each other: the inputs of a layer divided by numbers that its weight's columns are multiplied by.

Activations that are rounded to int8 as they come share one scale a token, which the largest of them sets; what a channel loses in size its
weights gain (SmoothQuant, arXiv 2211.10438). The division costs nothing: it is done on the weights of what comes before, a norm (also
Gemma's ``1 + w``), the rows of v or those of up. In exact arithmetic the model is the same.

An embedding's table has outliers of its own: a few columns are large in most rows, and set the scales of these. Its columns are divided by what
makes them alike, and what the graph looks up is multiplied by it (`parts.Decoder.embedding_factor`); a head that is the same table gets it from the last norm.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from firsttoken.backends.interface import Backend
from firsttoken.checkpoint import Checkpoint
from firsttoken.checkpoint_over import CheckpointOver
from firsttoken.decoder.features import CHOSEN_EXPERTS, LOW_RANK, PER_LAYER, SHARED_CACHE, STREAMS, features
from firsttoken.decoder.parts import Block, Decoder, Linear, Norm
from firsttoken.decoder.walk import norms, plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.lattice import Lattice
from firsttoken.precisions import PRECISIONS
from firsttoken.weight_source import Source

NORMS, VALUES, INNER = "norms", "values", "inner"  # what stands before: a norm, v before the output projection, up before down
EMBEDDING = "embedding"  # the table itself
KINDS = (NORMS, VALUES, INNER, EMBEDDING)
FACTOR = Source("smoothed embedding factor")  # of no file: `SmoothedCheckpoint` makes it
TABLE_ROWS = 8192  # of the embedding in memory at once
NOT_SMOOTHED = (PER_LAYER, SHARED_CACHE, STREAMS, LOW_RANK, CHOSEN_EXPERTS)  # others take what stands before, too
SMALLEST = 1e-5  # of a channel's largest input or weight: one that is always 0 needs no number
MOST = 1e3  # times the middle one, or less than it: float32 weights bear it


@dataclass(frozen=True)
class Site:
    """Layers of one input, and what stands before them. ``before`` are weights whose rows are divided, ``layers`` (by name) those whose
    columns are multiplied. ``heads``: of how many key heads and of how many query heads each the input is made, which share v's rows. The table's
    own layer is "embedding", before it is the last norm where it is the head too."""

    kind: str
    before: tuple[Source, ...]
    layers: Mapping[str, Source]
    heads: tuple[int, int] | None = None

    @property
    def seen(self) -> str:
        """The layer whose input is looked at; the others have the same."""
        return next(iter(self.layers))


def sites(decoder: Decoder, integers: frozenset[str]) -> list[Site]:
    """Where inputs can be smoothed; ``integers`` are the layers whose activations are rounded to int8, and "embedding" where its rows have scales. Raises `FirstTokenError`.

    A norm without a weight, or whose weight another norm has too, is left as it is; so is v with a norm behind it, and up without a gate.
    """
    if left := [name for name in features(decoder) if name in NOT_SMOOTHED]:
        raise FirstTokenError(f"smooth = true does not take {left[0]}, which {decoder.family} has; leave it out of the plan")
    found = places(decoder, integers)
    if not found:
        raise FirstTokenError(
            f"smooth = true changes nothing for {decoder.family} by this plan and target: no layer that rounds its activations to int8 stands behind a norm "
            "with a weight of its own, v or up; leave it out of the plan"
        )
    return found


def places(decoder: Decoder, integers: frozenset[str]) -> list[Site]:
    """The same, of which there may be none."""
    stored = [norm.weight for _, norm in norms(decoder) if norm.weight is not None]
    shared = {source for source in stored if stored.count(source) > 1}
    every = [site for number, block in enumerate(decoder.layers) for site in sites_of(block, f"layers.{number}.", shared)]
    every += table_sites(decoder, shared)
    return [site for site in every if not integers.isdisjoint(site.layers)]


def sites_of(block: Block, at: str, shared: set[Source]) -> list[Site]:
    """Those of one layer, ``layers.N.``."""
    attention, mlp = block.attention, block.mlp
    inner = {"mlp.gate": mlp.gate, "mlp.up": mlp.up}
    taken: list[tuple[Norm | None, dict[str, Linear | None]]] = []
    if attention is not None:
        asked = {f"attention.{name}": getattr(attention, name) for name in ("q", "k", "v", "gate")}
        taken += [(block.attention_norm, asked | (inner if block.parallel else {}))]
    if not block.parallel:
        taken += [(block.mlp_norm, inner)]
    found = [
        Site(NORMS, tuple(source for source in (norm.weight, norm.bias) if source), named(at, layers))
        for norm, layers in taken
        if norm is not None and norm.weight is not None and norm.weight not in shared
    ]
    if attention is not None and attention.v is not None and attention.v_norm is None:
        heads = attention.core.kv_heads, attention.core.group
        found.append(Site(VALUES, rows_of(attention.v), named(at, {"attention.output": attention.output}), heads))
    if mlp.gate is not None:
        found.append(Site(INNER, rows_of(mlp.up), named(at, {"mlp.down": mlp.down})))
    return found


def table_sites(decoder: Decoder, shared: set[Source]) -> list[Site]:
    """The embedding's table; none where it is the head too, and no norm of its own stands before that."""
    if not decoder.tied_head:
        return [Site(EMBEDDING, (), {"embedding": decoder.embedding.weight})]
    if decoder.norm.weight is None or decoder.norm.weight in shared:
        return []
    before = tuple(source for source in (decoder.norm.weight, decoder.norm.bias) if source)
    return [Site(EMBEDDING, before, {"embedding": decoder.embedding.weight})]


def column_sizes(checkpoint: Checkpoint, decoder: Decoder) -> np.ndarray:
    """The root mean square of every column of the embedding, float32 ``[columns]``."""
    table, total = decoder.embedding, np.zeros(decoder.embedding.columns)
    for start in range(0, table.rows, TABLE_ROWS):
        total += np.square(checkpoint.rows(table.weight, start, min(start + TABLE_ROWS, table.rows))).sum(0, dtype=np.float64)
    return np.sqrt(total / table.rows).astype(np.float32)


def named(at: str, layers: Mapping[str, Linear | None]) -> dict[str, Source]:
    return {at + name: layer.weight for name, layer in layers.items() if layer is not None}


def rows_of(layer: Linear) -> tuple[Source, ...]:
    return tuple(source for source in (layer.weight, layer.bias) if source is not None)


def divisors(site: Site, largest: np.ndarray, checkpoint: Checkpoint, strength: float) -> np.ndarray:
    """What the site's input is divided by, float32 ``[columns]``: ``largest input^strength / largest weight^(1 - strength)``, 1 in the middle.

    Of the table ``largest`` are `column_sizes`, and it is ``size^-strength``.
    """
    if site.kind == EMBEDDING:
        return centred(np.maximum(largest, SMALLEST) ** -strength)
    heaviest = np.max([np.abs(checkpoint.matrix(source)).max(0) for source in site.layers.values()], axis=0)
    if site.heads is not None:
        largest, heaviest = (over_query_heads(values, *site.heads) for values in (largest, heaviest))
    return centred(np.maximum(largest, SMALLEST) ** strength / np.maximum(heaviest, SMALLEST) ** (1 - strength))


def centred(divisor: np.ndarray) -> np.ndarray:
    """The same, so that the middle one is 1 and none is beyond `MOST`."""
    return np.clip(divisor / np.exp(np.log(divisor).mean()), 1 / MOST, MOST).astype(np.float32)


def over_query_heads(values: np.ndarray, kv_heads: int, group: int) -> np.ndarray:
    """The largest over the query heads of each key head, given to all of them: ``[kv_heads * group * dim]`` to the same."""
    return np.repeat(values.reshape(kv_heads, group, -1).max(1, keepdims=True), group, 1).reshape(-1)


class SmoothedCheckpoint(CheckpointOver):
    """``base`` with the weights that ``strengths`` (by kind of site) give.

    ``largest`` are the largest absolute inputs ``[columns]`` of the sites' layers, by name, and the embedding's `column_sizes`.
    """

    def __init__(self, base: Checkpoint, found: list[Site], largest: Mapping[str, np.ndarray], strengths: Mapping[str, float]) -> None:
        super().__init__(base)
        self._rows: dict[Source, np.ndarray] = {}
        self._columns: dict[Source, np.ndarray] = {}
        self._factor: np.ndarray = np.ones(0, np.float32)
        for site in found:
            if site.kind not in strengths:
                continue
            divisor = divisors(site, largest[site.seen], base, strengths[site.kind])
            self._columns |= dict.fromkeys(site.layers.values(), divisor)
            if site.kind == EMBEDDING:
                self.embedding_factor, self._factor = FACTOR, 1 / divisor
            rows = divisor if site.heads is None else divisor.reshape(site.heads[0], site.heads[1], -1)[:, 0].reshape(-1)
            self._rows |= dict.fromkeys(site.before, rows)

    def lattice(self, source: Source) -> Lattice | None:
        """The base's; a weight that is changed is on none any more."""
        return None if self._changed(source) else self.base.lattice(source)

    def scales(self, source: Source, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        return None if self._changed(source) else self.base.scales(source, start, stop)

    def _changed(self, source: Source) -> bool:
        return source in self._columns or source in self._rows

    def rows(self, source: str | Source, start: int = 0, stop: int | None = None) -> np.ndarray:
        if source == FACTOR:
            return self._factor[start:stop, None]
        values = self.base.rows(source, start, stop)
        if isinstance(source, str):
            return values
        if (rows := self._rows.get(source)) is not None:
            values = values / rows[start:stop, None]
        columns = self._columns.get(source)
        return values if columns is None else values * columns


def smoothed_for(decoder: Decoder, precisions: Mapping[str, str], backend: Backend) -> frozenset[str]:
    """The linear layers whose inputs ``backend`` rounds to int8, and the embedding where its rows have scales."""
    layers = {
        layer.name for layer in plan_layers(decoder) if layer.kind == "linear" and backend.activations(precisions[layer.name]) == "int8"
    }
    return frozenset(layers | ({"embedding"} if PRECISIONS[precisions["embedding"]].scales else set()))
