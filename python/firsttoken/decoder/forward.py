"""The one traversal: any decoder's tree over any backend's operations.

What differs between backends (kernels, precisions, where the cache lives) is in their `Ops`; what a model is, is in its
tree. The proof's reference is the only other forward pass, on purpose.
"""

from typing import Protocol, TypeVar

from firsttoken.decoder.parts import Convolution, Core
from firsttoken.decoder.walk import Named

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
        """An activation function by the name that `parts.Mlp` has for it, or "tanh"."""

    def multiply(self, a: T, b: T) -> T:
        """The product, of two values of perhaps different types."""

    def scale(self, x: T, by: float) -> T:
        """Every value times ``by``."""

    def split_heads(self, x: T, heads: int, head_dim: int) -> T:
        """``[S, heads * head_dim]`` to ``[S, heads, head_dim]``."""

    def rotate(self, attention: Named, which: str, x: T) -> T:
        """Queries or keys ``[S, heads, head_dim]`` turned by their positions, queries times `parts.Attention.rotated_scale` too."""

    def into_core(self, attention: Named, which: str, x: T) -> T:
        """``q``, ``k`` or ``v``, split into heads, in the type that the core takes."""

    def convolve(self, kernel: Named[Convolution], gate: T, value: T, narrowed: bool) -> T:
        """The convolution of ``gate * value [S, channels]``, all in FP32, over what the layer remembers and the call's own positions; remembers
        the last of them. ``narrowed``: the last position's row alone is returned."""

    def attend(self, core: Named[Core], query: T, key: T, value: T) -> T:
        """Causal attention over the cache and the call's own positions, ``[S, heads * head_dim]``; takes the new rows into the cache."""


def logits(ops: Ops[T], model: Named) -> T:
    """Logits of the last position, over the call's tokens."""
    x = ops.embed(model.embedding)
    for number, layer in enumerate(model.layers):
        x = block(ops, layer, x, final=number == len(model.layers) - 1)
    ops.enter(model.head.name)
    scores = ops.linear(model.head, ops.norm(model.norm, ops.last(x)))
    return scores if model.softcap is None else cap(ops, scores, model.softcap)


def block(ops: Ops[T], layer: Named, x: T, final: bool) -> T:
    """One layer; the ``final`` one may return the last position's row alone."""
    mixer = layer.attention or layer.convolution
    ops.enter(mixer.name)
    normed = asked = norm(ops, layer.attention_norm, x)
    if final:
        asked, x = ops.narrow(layer, normed, x)
    mix = attention if layer.attention else convolution
    x = ops.add(x, norm(ops, layer.attention_output_norm, mix(ops, mixer, asked, normed)))
    ops.enter(layer.mlp.name)
    given = asked if layer.parallel else norm(ops, layer.mlp_norm, x)
    return ops.add(x, norm(ops, layer.mlp_output_norm, mlp(ops, layer.mlp, given)))


def norm(ops: Ops[T], part: Named | None, x: T) -> T:
    return x if part is None else ops.norm(part, x)


def attention(ops: Ops[T], part: Named, asked: T, x: T) -> T:
    """Queries of ``asked`` over keys and values of ``x``."""
    query, key, value = (heads(ops, part, which, asked if which == "q" else x) for which in "qkv")
    return ops.linear(part.output, ops.attend(part.core, query, key, value))


def convolution(ops: Ops[T], part: Named, asked: T, x: T) -> T:
    """The rows of ``asked``, which are all of ``x`` or its last, of a convolution over ``x``."""
    mixed = ops.convolve(part.kernel, ops.linear(part.in_gate, x), ops.linear(part.value, x), narrowed=asked is not x)
    return ops.linear(part.output, ops.multiply(mixed, ops.linear(part.out_gate, asked)))


def heads(ops: Ops[T], part: Named, which: str, x: T) -> T:
    """One projection with its optional norm and rotation, as the core takes it."""
    core, own_norm = part.core, {"q": part.q_norm, "k": part.k_norm, "v": part.v_norm}[which]
    y = ops.linear(getattr(part, which), x)
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
    activated = ops.activate(part.activation, ops.linear(part.gate, x))
    return ops.linear(part.down, ops.multiply(activated, ops.linear(part.up, x)))


def cap(ops: Ops[T], x: T, most: float) -> T:
    """``most * tanh(x / most)`` (Gemma 2, arXiv 2408.00118)."""
    return ops.scale(ops.activate("tanh", ops.scale(x, 1 / most)), most)
