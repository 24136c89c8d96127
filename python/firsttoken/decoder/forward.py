"""The one traversal: any decoder's tree over any backend's operations.

What differs between backends (kernels, precisions, where the cache lives) is in their `Ops`; what a model is, is in its
tree. The proof's reference is the only other forward pass, on purpose.
"""

from typing import Protocol, TypeVar, cast

from firsttoken.decoder import streams
from firsttoken.decoder.parts import Coefficients, Convolution, Core, Cutoff, DeltaRule, Router
from firsttoken.decoder.walk import Named, final_layer, shares

T = TypeVar("T")  # a backend's value: a tensor, or the number of one in a graph


class Ops(Protocol[T]):
    """What a backend computes for one call of S tokens. Parts come with their names, by which it finds weight and precision.

    Values between parts are float32 ``[S, hidden_size]``, whatever a part computes in (a backend may keep a leading 1).
    """

    def enter(self, name: str) -> None:
        """What follows belongs to the part of this name."""

    def embed(self, embedding: Named) -> T:
        """The rows of the call's tokens."""

    def norm(self, norm: Named, x: T) -> T:
        """The norm over the last axis, in FP32."""

    def linear(self, linear: Named, x: T) -> T:
        """The layer in its own precision, in the type that its kernel gives."""

    def narrow(self, layer: Named, normed: T, residual: T) -> tuple[T, T]:
        """The last position's rows of both, in the last layer, which needs every key but one query; or both as they are."""

    def last(self, x: T) -> T:
        """The last position's row, all that the head needs; ``x`` itself where `narrow` has left no other."""

    def add(self, residual: T, x: T) -> T:
        """The sum in FP32."""

    def activate(self, kind: str, x: T) -> T:
        """An activation function by the name that `parts.Mlp` has for it, or "tanh" or "sigmoid"."""

    def multiply(self, a: T, b: T) -> T:
        """The product, of two values of perhaps different types."""

    def scale(self, x: T, by: float) -> T:
        """Every value times ``by``."""

    def multiply_by(self, factor: Named, x: T) -> T:
        """Every value times a stored number, or each times its own, in FP32."""

    def split_heads(self, x: T, heads: int, head_dim: int) -> T:
        """``[S, heads * head_dim]`` to ``[S, heads, head_dim]``."""

    def rotate(self, attention: Named, which: str, x: T) -> T:
        """Queries or keys ``[S, heads, head_dim]`` turned by their positions, queries times `parts.Attention.rotated_scale` too."""

    def into_core(self, attention: Named, which: str, x: T) -> T:
        """``q``, ``k`` or ``v``, split into heads, in the type that the core takes."""

    def convolve(self, kernel: Named[Convolution], gate: T | None, value: T, narrowed: bool) -> T:
        """The convolution of ``gate * value [S, channels]``, or of ``value``, all in FP32, over what the layer remembers and the call's own positions; remembers
        the last of them. ``narrowed``: the last position's row alone is returned."""

    def attend(self, core: Named[Core], query: T, key: T, value: T) -> T:
        """Causal attention over the cache and the call's own positions, ``[S, heads * head_dim]``; takes the new rows into the cache."""


class LayeredOps(Ops[T], Protocol[T]):
    """What layers with inputs and caches of other layers need besides; a backend without it refuses them by `decoder.features`."""

    def attend_shared(self, core: Named[Core], owner: Named[Core], query: T) -> T:
        """The same over the keys and values that ``owner``, an earlier layer's core, attended to in this call."""

    def split_layers(self, x: T, layers: int, size: int) -> T:
        """``[S, layers * size]`` to ``[S, layers, size]``, over whose last axis `norm` goes."""

    def narrow_layers(self, x: T) -> T:
        """The last position's row of what `split_layers` or `StreamedOps.stack` gave, or of a state, where `narrow` leaves no other; or ``x`` itself."""

    def layer_input(self, x: T, number: int) -> T:
        """What layer ``number`` takes of it, ``[S, size]``."""


class StreamedOps(LayeredOps[T], Protocol[T]):
    """What several streams of the hidden state and sparse MLPs need besides; all in FP32. Streams are ``[S, streams, hidden_size]``."""

    def stack(self, streams: list[T]) -> T:
        """Streams out of states ``[S, hidden_size]``."""

    def unstack(self, x: T, count: int) -> list[T]:
        """The states of the last position, all that ``x`` has."""

    def match(self, part: Named, x: T, like: T) -> T:
        """``x`` times what makes its root mean square that of ``like``; its own mean square counts as ``part.floor`` at least."""

    def coefficients(self, part: Named[Coefficients], x: T, first: bool = False) -> T:
        """``[S, rows]``, or ``[S, part.first]`` of the ``first`` stream's rows, which come first."""

    def mix(self, factors: T, x: T) -> T:
        """Sums of the streams: ``factors [S, n * streams]`` to n streams, or to a state ``[S, hidden_size]`` where n is 1."""

    def spread(self, x: T, factors: T | None, streams: int) -> T:
        """A state times each of ``factors [S, streams]``; without them, itself for every stream but the first, which gets zeros."""

    def subtract(self, a: T, b: T) -> T:
        """The difference."""

    def cut_off(self, part: Named[Cutoff], x: T) -> T:
        """What is left of ``x``."""


class RecurrentOps(Ops[T], Protocol[T]):
    """What a `parts.DeltaNet` needs besides; a backend without it refuses it by `decoder.features`."""

    def split_columns(self, x: T, sizes: tuple[int, ...]) -> tuple[T, ...]:
        """``[S, sum of sizes]`` to one ``[S, size]`` each."""

    def delta_rule(self, rule: Named[DeltaRule], query: T, key: T, value: T, strength: T, forgetting: T, narrowed: bool) -> T:
        """The rule over the state before this call and the call's own positions, ``[S, value_heads, value_dim]``; remembers the state behind
        the last one. Queries, keys and values are ``[S, heads, dim]``, b and a ``[S, value_heads]``. ``narrowed``: the last position's row
        alone is returned."""

    def join_heads(self, x: T) -> T:
        """``[S, heads, dim]`` to ``[S, heads * dim]``."""


class ChoosingOps(Ops[T], Protocol[T]):
    """What layers with experts need besides; a backend without it refuses them by `decoder.features`."""

    def weigh_experts(self, router: Named[Router], x: T, inner: T) -> T:
        """``inner [S, experts * size]`` times the weight of its expert for ``x [S, hidden_size]``, 0 of those not chosen; all in FP32."""


def logits(ops: Ops[T], model: Named) -> T:
    """Logits of the last position, over the call's tokens."""
    x = embedded(ops, model)
    more = cast("StreamedOps[T]", ops)
    given = None if model.per_layer is None else layer_inputs(more, model.per_layer, x, len(model.layers))
    state = None if model.streams is None else streams.opened(more, model.streams, x)
    final = final_layer(model.part)
    for number, layer in enumerate(model.layers):
        if number == final and given is not None:
            given = more.narrow_layers(given)
        owner = model.layers[layer.attention.shares].attention.core if shares(layer.part) else None
        x, state = step(more, layer, x, state, given, number, number == final, owner)
    x = ops.last(x) if state is None else streams.merged(more, model.streams_output, state)
    ops.enter(model.head.name)
    scores = ops.linear(model.head, ops.norm(model.norm, x))
    return scores if model.softcap is None else cap(ops, scores, model.softcap)


def embedded(ops: Ops[T], model: Named) -> T:
    """The embedding's rows of the call's tokens, times its factor where it has one."""
    x = ops.embed(model.embedding)
    return x if model.embedding_factor is None else ops.multiply_by(model.embedding_factor, x)


def step(
    ops: StreamedOps[T], layer: Named, x: T, state: T | None, given: T | None, number: int, final: bool = False, owner: Named | None = None
) -> tuple[T, T | None]:
    """Layer ``number`` over the residual ``x`` and, where there are several, all streams ``state``; arguments as in `block` and `finish`."""
    if state is None:
        return finish(ops, layer, block(ops, layer, x, final, owner), given, number), None
    x, state = streams.predicted(ops, layer.updates, x, state)
    computed = block(ops, layer, x, final, owner)
    if final:
        x, state = ops.narrow_layers(x), ops.narrow_layers(state)
    x, state = streams.corrected(ops, layer.updates, x, state, computed)
    if layer.per_layer is None or given is None:
        return x, state
    taken = layer_input(ops, layer.per_layer, ops.multiply_by(layer.updates.factor, x), given, number)
    return x, ops.add(state, ops.spread(taken, None, layer.updates.router.rows))


def layer_inputs(ops: LayeredOps[T], part: Named, x: T, layers: int) -> T:
    """What every layer takes besides the residual, of the embedding's rows ``x`` and of a table of its own."""
    ops.enter(part.name)
    row = ops.split_layers(ops.embed(part.embedding), layers, part.size)
    return ops.add(row, ops.norm(part.norm, ops.split_layers(ops.linear(part.projection, x), layers, part.size)))


def finish(ops: LayeredOps[T], layer: Named, x: T, given: T | None, number: int) -> T:
    """What comes after the MLP of layer ``number``, in the families that have it; ``given`` is what `layer_inputs` gave."""
    if layer.per_layer is not None and given is not None:
        x = ops.add(x, layer_input(ops, layer.per_layer, x, given, number))
    return x if layer.factor is None else ops.multiply_by(layer.factor, x)


def layer_input(ops: LayeredOps[T], part: Named, x: T, given: T, number: int) -> T:
    """What layer ``number`` makes of its part of ``given``."""
    ops.enter(part.name)
    gated = ops.multiply(ops.activate(part.activation, ops.linear(part.gate, x)), ops.layer_input(given, number))
    return ops.norm(part.norm, ops.linear(part.projection, gated))


def block(ops: Ops[T], layer: Named, x: T, final: bool, owner: Named | None = None) -> T:
    """One layer's attention, or what stands in its place, and its MLP; the ``final`` one may return the last position's row alone. ``owner`` is the core whose
    keys and values it shares."""
    mixer = layer.attention or layer.convolution or layer.delta
    ops.enter(mixer.name)
    normed = asked = norm(ops, layer.attention_norm, x)
    if final:
        asked, x = ops.narrow(layer, normed, x)
    if layer.attention:
        mixed = attention(ops, mixer, asked, normed, owner)
    else:
        mixed = (convolution if layer.convolution else delta_net)(ops, mixer, asked, normed)
    x = ops.add(x, norm(ops, layer.attention_output_norm, mixed))
    if layer.low_rank is not None:
        x = ops.scale(ops.add(x, low_rank(ops, layer.low_rank, asked)), 0.5**0.5)
    ops.enter(layer.mlp.name)
    given = asked if layer.parallel else norm(ops, layer.mlp_norm, x)
    return ops.add(x, norm(ops, layer.mlp_output_norm, mlp(ops, layer.mlp, given)))


def norm(ops: Ops[T], part: Named | None, x: T) -> T:
    return x if part is None else ops.norm(part, x)


def low_rank(ops: Ops[T], part: Named, x: T) -> T:
    ops.enter(part.name)
    return ops.add(x, ops.norm(part.norm, ops.linear(part.right, ops.linear(part.left, x))))


def attention(ops: Ops[T], part: Named, asked: T, x: T, owner: Named | None = None) -> T:
    """Queries of ``asked`` over keys and values of ``x``, or over those of ``owner``."""
    if owner is not None:
        return ops.linear(part.output, cast("LayeredOps[T]", ops).attend_shared(part.core, owner, heads(ops, part, "q", asked)))
    query = heads(ops, part, "q", asked)
    mixed = ops.attend(part.core, query, *keys_and_values(ops, part, x))
    if part.gate is not None:
        mixed = ops.multiply(mixed, ops.activate("sigmoid", ops.linear(part.gate, asked)))
    return ops.linear(part.output, mixed)


def convolution(ops: Ops[T], part: Named, asked: T, x: T) -> T:
    """The rows of ``asked``, which are all of ``x`` or its last, of a convolution over ``x``."""
    mixed = ops.convolve(part.kernel, ops.linear(part.in_gate, x), ops.linear(part.value, x), narrowed=asked is not x)
    return ops.linear(part.output, ops.multiply(mixed, ops.linear(part.out_gate, asked)))


def delta_net(ops: Ops[T], part: Named, asked: T, x: T) -> T:
    """The rows of ``asked``, which are all of ``x`` or its last, of a gated delta net over ``x``."""
    more, rule = cast("RecurrentOps[T]", ops), part.rule
    mixed = ops.activate("silu", ops.convolve(part.kernel, None, ops.linear(part.mixed, x), narrowed=False))
    keys, values = (rule.key_heads, rule.key_dim), (rule.value_heads, rule.value_dim)
    q, k, v = more.split_columns(mixed, (keys[0] * keys[1], keys[0] * keys[1], values[0] * values[1]))
    query = ops.scale(ops.norm(part.q_norm, ops.split_heads(q, *keys)), rule.key_dim**-1)
    key = ops.scale(ops.norm(part.k_norm, ops.split_heads(k, *keys)), rule.key_dim**-0.5)
    strength, forgetting = ops.linear(part.strength, x), ops.linear(part.forgetting, x)
    found = more.delta_rule(rule, query, key, ops.split_heads(v, *values), strength, forgetting, narrowed=asked is not x)
    gate = ops.activate("silu", ops.linear(part.gate, asked))
    return ops.linear(part.output, ops.multiply(more.join_heads(ops.norm(part.norm, found)), gate))


def keys_and_values(ops: Ops[T], part: Named, x: T) -> tuple[T, T]:
    both = ops.linear(part.k, x) if part.v is None else None
    return heads(ops, part, "k", x, both), heads(ops, part, "v", x, both)


def heads(ops: Ops[T], part: Named, which: str, x: T, projected: T | None = None) -> T:
    """One projection (``projected``, where that is there already) with its optional norm and rotation, as the core takes it."""
    core, own_norm = part.core, {"q": part.q_norm, "k": part.k_norm, "v": part.v_norm}[which]
    y = ops.linear(getattr(part, which), x) if projected is None else projected
    if own_norm is not None and own_norm.size != core.head_dim:
        y, own_norm = ops.norm(own_norm, y), None
    y = ops.split_heads(y, core.heads if which == "q" else core.kv_heads, core.head_dim)
    if not part.norms_follow_rotation:
        y = norm(ops, own_norm, y)
    turned = which != "v" and part.rotation is not None
    if turned:
        y = ops.rotate(part, which, y)
    if part.norms_follow_rotation:
        y = norm(ops, own_norm, y)
    left = core.scale / (part.rotated_scale if turned else 1.0)
    if which == "q" and left != 1.0:
        y = ops.scale(y, left)
    return ops.into_core(part, which, y)


def mlp(ops: Ops[T], part: Named, x: T) -> T:
    if part.gate is None:
        return ops.linear(part.down, ops.activate(part.activation, ops.linear(part.up, x)))
    gate = ops.linear(part.gate, x)
    if part.cutoff is not None:
        gate = cast("StreamedOps[T]", ops).cut_off(part.cutoff, gate)
    inner = ops.multiply(ops.activate(part.activation, gate), ops.linear(part.up, x))
    if part.router is not None:
        inner = cast("ChoosingOps[T]", ops).weigh_experts(part.router, x, inner)
    return ops.linear(part.down, inner)


def cap(ops: Ops[T], x: T, most: float) -> T:
    """``most * tanh(x / most)`` (Gemma 2, arXiv 2408.00118)."""
    return ops.scale(ops.activate("tanh", ops.scale(x, 1 / most)), most)
