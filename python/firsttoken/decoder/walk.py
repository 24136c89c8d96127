"""What is derived from a decoder's tree: names, plan layers, tensors, parameter count, features, states of the cache."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

import numpy as np

from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.families import describe
from firsttoken.decoder.parts import (
    Block,
    Coefficients,
    Convolution,
    Core,
    Decoder,
    DeltaRule,
    Embedding,
    Factor,
    Linear,
    Norm,
    Part,
    Router,
)
from firsttoken.decoder.rope import Rope
from firsttoken.decoder.text_part import find_places, has_other_parts, text_configuration
from firsttoken.errors import FirstTokenError
from firsttoken.weight_source import Source

KINDS: dict[type, str] = {Embedding: "embedding", Linear: "linear", Core: "core"}  # of the parts that a plan can address


PartT = TypeVar("PartT", bound=Part)


class Named(Generic[PartT]):
    """A part with its dotted name in the tree: its fields that are parts come named too, its other fields as they are."""

    def __init__(self, part: PartT, name: str = "") -> None:
        self.part, self.name = part, name

    def __getattr__(self, field: str) -> Any:
        value, name = getattr(self.part, field), f"{self.name}.{field}" if self.name else field
        if isinstance(value, tuple):
            return [Named(item, f"{name}.{n}") if isinstance(item, Part) else item for n, item in enumerate(value)]
        return Named(value, name) if isinstance(value, Part) else value


COMPARED_VALUES = 1 << 22  # of two matrices in memory at once
RING_SLACK = 64
"""Rows of a ring beyond its window: so many tokens can be taken back, as a chat template does with the end of an answer."""


@dataclass(frozen=True)
class Layer:
    """One thing a plan can address.

    ``kind`` is ``embedding``, ``linear`` or ``core`` (scores, softmax and weighted sum: no weights, but a compute precision
    that is also the KV cache's). ``shape`` is ``(rows, columns)`` of the weight.
    """

    name: str
    kind: str
    shape: tuple[int, int] | None = None
    weight: Source | None = None
    bias: Source | None = None

    @property
    def matrix(self) -> tuple[Source, tuple[int, int]]:
        """Weight and shape of a layer that is no core."""
        assert self.weight is not None and self.shape is not None, f"{self.name} has no weight"
        return self.weight, self.shape


@dataclass(frozen=True)
class CacheState:
    """What layer number ``layer`` remembers: keys and values of ``kv_heads`` heads for every position, or for the last ``window``."""

    layer: int
    name: str  # of its core in the tree
    kv_heads: int
    head_dim: int
    window: int | None

    def rows(self, length: int) -> int:
        """How many positions of a cache of ``length`` it keeps: all, or a ring of the window and `RING_SLACK` more."""
        return length if self.window is None else min(length, self.window + RING_SLACK)


@dataclass(frozen=True)
class ConvolutionState:
    """What layer number ``layer`` remembers of its convolution's inputs: the last ``rows`` of ``channels`` values; zeros at position 0."""

    layer: int
    name: str  # of its kernel in the tree
    rows: int
    channels: int


@dataclass(frozen=True)
class RecurrentState:
    """What layer number ``layer`` remembers of all positions by its delta rule: float32 ``[heads, key_dim, value_dim]``; zeros at position 0."""

    layer: int
    name: str  # of its rule in the tree
    heads: int
    key_dim: int
    value_dim: int


def leaves(part: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields ``(name, part)`` of every part without parts of its own, in the order of the tree, which is that of computation."""
    children = [(field.name, getattr(part, field.name)) for field in fields(part)]
    inner = [
        (field, value)
        for field, value in children
        if isinstance(value, Part) or (isinstance(value, tuple) and value and isinstance(value[0], Part))
    ]
    if not inner:
        yield name, part
    for field, value in inner:
        path = f"{name}.{field}" if name else field
        if isinstance(value, tuple):
            for number, item in enumerate(value):
                yield from leaves(item, f"{path}.{number}")
        else:
            yield from leaves(value, path)


def plan_layers(decoder: Decoder) -> list[Layer]:
    """Everything a plan can address, in the order of computation; the head comes last."""
    layers = []
    for name, part in leaves(decoder):
        if isinstance(part, Core):
            layers.append(Layer(name, "core"))
        elif isinstance(part, (Embedding, Linear)):
            layers.append(Layer(name, KINDS[type(part)], (part.rows, part.columns), part.weight, getattr(part, "bias", None)))
    return layers


def is_table(layer: str) -> bool:
    """Whether a layer of this name is an embedding: looked up in its file, never multiplied and never a delegate's."""
    return layer.rpartition(".")[2] == "embedding"


def norms(decoder: Decoder) -> list[tuple[str, Norm]]:
    """``(name, part)`` of every norm; norms always stay FP32."""
    return [(name, part) for name, part in leaves(decoder) if isinstance(part, Norm)]


def factors(decoder: Decoder) -> list[tuple[str, Factor]]:
    """``(name, part)`` of every stored number that a state is multiplied by; they stay FP32 as norms do."""
    return [(name, part) for name, part in leaves(decoder) if isinstance(part, Factor)]


def convolutions(decoder: Decoder) -> list[tuple[str, Convolution]]:
    """``(name, part)`` of every convolution's kernel; they always stay FP32."""
    return [(name, part) for name, part in leaves(decoder) if isinstance(part, Convolution)]


def delta_rules(decoder: Decoder) -> list[tuple[str, DeltaRule]]:
    """``(name, part)`` of every delta rule; they always stay FP32."""
    return [(name, part) for name, part in leaves(decoder) if isinstance(part, DeltaRule)]


def coefficients(decoder: Decoder) -> list[tuple[str, Coefficients]]:
    """``(name, part)`` of every small matrix that makes the streams' coefficients; they always stay FP32."""
    return [(name, part) for name, part in leaves(decoder) if isinstance(part, Coefficients)]


def routers(decoder: Decoder) -> list[tuple[str, Router]]:
    """``(name, part)`` of every choice of experts; they always stay FP32."""
    return [(name, part) for name, part in leaves(decoder) if isinstance(part, Router)]


def tensors(decoder: Decoder) -> Iterator[tuple[Source, tuple[int, ...]]]:
    """Yields what is taken from every tensor, with the shape that the tree expects of it."""
    for source, shape in weights(decoder):
        yield from source.pieces(shape)


def weights(decoder: Decoder) -> Iterator[tuple[Source, tuple[int, ...]]]:
    """Yields every source with the shape that the tree expects of what it takes, perhaps of several tensors."""
    for _, norm in norms(decoder):
        for source in (norm.weight, norm.bias):
            if source is not None:
                yield source, (norm.size,)
    for _, factor in factors(decoder):
        yield factor.weight, (factor.size,)
    for _, small in coefficients(decoder):
        yield small.weight, (small.rows, small.columns)
    for _, kernel in convolutions(decoder):
        yield kernel.weight, (kernel.channels, 1, kernel.length)
        if kernel.bias is not None:
            yield kernel.bias, (kernel.channels,)
    for _, rule in delta_rules(decoder):
        yield rule.decay, (rule.value_heads,)
    for _, router in routers(decoder):
        yield router.weight, (router.experts, router.columns)
        if router.bias is not None:
            yield router.bias, (router.experts,)
    for layer in plan_layers(decoder):
        if layer.weight is not None and layer.shape is not None:
            yield layer.weight, layer.shape
            if layer.bias is not None:
                yield layer.bias, layer.shape[:1]


def parameter_count(decoder: Decoder) -> int:
    """Weights of the model, the tied head counted once. Biases are not counted, as in the families' own figures."""
    counted: dict[Source, int] = {layer.weight: math.prod(layer.shape) for layer in plan_layers(decoder) if layer.weight and layer.shape}
    kernels = sum(kernel.channels * kernel.length for _, kernel in convolutions(decoder))
    kernels += sum(small.rows * small.columns for _, small in coefficients(decoder))
    kernels += sum(router.experts * router.columns for _, router in routers(decoder))
    return sum(counted.values()) + kernels + sum(norm.size for _, norm in norms(decoder) if norm.weight is not None)


def states(decoder: Decoder) -> list[CacheState]:
    """The keys and values that every layer with attention remembers between calls, in the layers' order; layers that share an earlier one's
    remember none."""
    cores = [(n, block.attention.core) for n, block in enumerate(decoder.layers) if block.attention and not shares(block)]
    return [CacheState(n, f"layers.{n}.attention.core", core.kv_heads, core.head_dim, core.window) for n, core in cores]


def shares(block: Block) -> bool:
    """Whether a layer attends to the keys and values of an earlier one."""
    return block.attention is not None and block.attention.shares is not None


def final_layer(decoder: Decoder) -> int:
    """The last layer that remembers something of every position; what follows it needs the last position's row alone."""
    return max(number for number, block in enumerate(decoder.layers) if not shares(block))


def owners(decoder: Decoder) -> dict[str, str]:
    """The name of every core, with that of the core whose keys and values it attends to: its own, or an earlier layer's."""
    name = "layers.{}.attention.core".format
    attentions = [(number, block.attention) for number, block in enumerate(decoder.layers) if block.attention]
    return {name(n): name(n if attention.shares is None else attention.shares) for n, attention in attentions}


def convolution_states(decoder: Decoder) -> list[ConvolutionState]:
    """What every layer with a convolution remembers between calls, in the layers' order."""
    return [ConvolutionState(layer_number(name), name, kernel.length - 1, kernel.channels) for name, kernel in convolutions(decoder)]


def recurrent_states(decoder: Decoder) -> list[RecurrentState]:
    """What every layer with a delta rule remembers between calls, in the layers' order."""
    return [RecurrentState(layer_number(name), name, rule.value_heads, rule.key_dim, rule.value_dim) for name, rule in delta_rules(decoder)]


def layer_number(name: str) -> int:
    """The number of the layer that a part of this name belongs to."""
    return int(name.split(".")[1])


def windows(decoder: Decoder) -> list[int | None]:
    """The different windows of the layers, None first where a layer sees all."""
    return sorted({state.window for state in states(decoder)}, key=lambda window: window or 0)


def rotations(decoder: Decoder) -> dict[Rope, list[int]]:
    """The rotary embeddings of the model, each with the numbers of the layers that it turns."""
    found: dict[Rope, list[int]] = {}
    for number, block in enumerate(decoder.layers):
        if block.attention is not None and block.attention.rotation is not None:
            found.setdefault(block.attention.rotation, []).append(number)
    return found


def within(decoder: Decoder, cache_length: int) -> Decoder:
    """The decoder without the windows that no position of a cache of this length lies outside of."""

    def widened(block: Block) -> Block:
        if block.attention is None:
            return block
        core = block.attention.core
        if core.window is None or core.window < cache_length:
            return block
        return replace(block, attention=replace(block.attention, core=replace(core, window=None)))

    return replace(decoder, layers=tuple(widened(block) for block in decoder.layers))


def open_decoder(checkpoint: Checkpoint) -> Decoder:
    """Describes the model (`described_by` the checkpoint) and checks every tensor's name, shape and dtype against it, before any weight is read.

    Raises `FirstTokenError` naming the first tensor that is missing, has another shape than the configuration says, or
    holds rows that no part of the decoder takes.
    """
    places, values = find_places(checkpoint.tensors), text_configuration(checkpoint.config)
    decoder = places.named(describe(values))
    if decoder.tied_head and _has_own_head(checkpoint, decoder, f"{places.head}weight"):
        decoder = places.named(describe({**values, "tie_word_embeddings": False}))
        checkpoint.remark(
            "tie_word_embeddings is true, but a lm_head.weight with other values is saved; that one is taken, as transformers takes it"
        )
    taken: dict[str, set[tuple[int, int]]] = {}
    for source, shape in tensors(decoder):
        stored = checkpoint.stored(source.name)
        whole = shape[0] if source.period is None or source.order is None else shape[0] // len(source.order) * source.period
        begin, end = source.rows or (0, whole)
        if (
            stored.shape[1:] != shape[1:]
            or len(stored.shape) != len(shape)
            or end - begin != whole
            or end > stored.shape[0]
            or (source.rows is None and stored.shape[0] != whole)
        ):
            wanted = [end, *shape[1:]]
            raise FirstTokenError(
                f"checkpoint {checkpoint.folder}: tensor {source.name!r} has shape {list(stored.shape)}, but config.json says {wanted}"
            )
        taken.setdefault(source.name, set()).update(source.spans(shape[0]))
    other = has_other_parts(checkpoint.config)
    left = [name for name in checkpoint.tensors if name not in taken and not _known_extra(name, decoder, f"{places.head}weight")]
    unused = [name for name in left if not other or places.holds(name)]
    if other and len(left) > len(unused):
        checkpoint.remark(
            f"{checkpoint.config['model_type']} has other parts than its text: {len(left) - len(unused)} tensors of them are left out, and what is exported takes text alone"
        )
    unused += [name for name, parts in taken.items() if not _covers(parts, checkpoint.tensors[name].row_count)]
    if unused:
        raise FirstTokenError(
            f"checkpoint {checkpoint.folder}: tensor {unused[0]!r} has no place in a {decoder.family} decoder with this config.json "
            f"({len(unused)} such); it would be dropped silently"
        )
    return described_by(checkpoint, decoder)


def described_by(checkpoint: Checkpoint, decoder: Decoder) -> Decoder:
    """The decoder with the factor on its embedding that the checkpoint's weights want, which its files do not say."""
    source = checkpoint.embedding_factor
    return decoder if source is None else replace(decoder, embedding_factor=Factor(source, decoder.hidden_size))


def _has_own_head(checkpoint: Checkpoint, decoder: Decoder, head: str) -> bool:
    """Whether a ``head`` is saved that differs from the embedding it would be tied to. Reads both until they differ."""
    embedding, saved = decoder.embedding.weight.name, checkpoint.tensors.get(head)
    stored = checkpoint.tensors.get(embedding)
    if saved is None or stored is None or embedding == head:
        return False
    if saved.shape != stored.shape:
        return True
    step = max(1, COMPARED_VALUES // max(1, saved.row_length))
    return any(
        not np.array_equal(checkpoint.rows(head, at, end), checkpoint.rows(embedding, at, end))
        for at in range(0, saved.row_count, step)
        for end in [min(at + step, saved.row_count)]
    )


def _covers(parts: set[tuple[int, int]], rows: int) -> bool:
    reached = 0
    for begin, end in sorted(parts):
        if begin > reached:
            return False
        reached = max(reached, end)
    return reached == rows


def _known_extra(name: str, decoder: Decoder, head: str) -> bool:
    # Tied models may still store their head; rotary tables are derived from the configuration; layers that share an earlier one's keys
    # and values may still store what would compute their own, which transformers leaves out by these names.
    unused = {
        f"{block.attention.q.weight.name.removesuffix('q_proj.weight')}{which}.weight"
        for block in decoder.layers if block.attention and shares(block) for which in ("k_proj", "v_proj", "k_norm", "v_norm")
    }  # fmt: skip
    # Qwen3.5 may store layers that predict a second token, which transformers leaves out by this name.
    second = decoder.family == "qwen3_5_text" and name.startswith("mtp.")
    return (decoder.tied_head and name == head) or name.endswith("rotary_emb.inv_freq") or name in unused or second
