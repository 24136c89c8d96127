"""The one traversal: any decoder's tree over any backend's operations.

What differs between backends (kernels, precisions, where the cache lives) is in their `Ops`; what a model is, is in its
tree. The proof's reference is the only other forward pass, on purpose.
"""

from typing import Protocol, TypeVar

from firsttoken.decoder.parts import Core
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
        """RMSNorm over the last axis, in FP32."""

    def linear(self, linear: Named, x: T) -> T:
        """The layer in its own precision, in the type that its kernel gives."""

    def narrow(self, layer: Named, normed: T, residual: T) -> tuple[T, T]:
        """The last position's rows of both, in the last layer, which needs every key but one query; or both as they are."""

    def last(self, x: T) -> T:
        """The last position's row, all that the head needs; ``x`` itself where `narrow` has left no other."""

    def add(self, residual: T, x: T) -> T:
        """The sum in FP32."""

    def activate(self, kind: str, x: T) -> T:
        """An activation function by the name that `parts.Mlp` has for it."""

    def multiply(self, a: T, b: T) -> T:
        """The product, of two values of perhaps different types."""

    def split_heads(self, x: T, heads: int, head_dim: int) -> T:
        """``[S, heads * head_dim]`` to ``[S, heads, head_dim]``."""

    def into_core(self, attention: Named, which: str, x: T) -> T:
        """``q``, ``k`` or ``v``, split into heads, as the core takes it: queries and keys turned by their positions, queries scaled."""

    def attend(self, core: Named[Core], query: T, key: T, value: T) -> T:
        """Causal attention over the cache and the call's own positions, ``[S, heads * head_dim]``; takes the new rows into the cache."""


def logits(ops: Ops[T], model: Named) -> T:
    """Logits of the last position, over the call's tokens."""
    x = ops.embed(model.embedding)
    for number, layer in enumerate(model.layers):
        x = block(ops, layer, x, final=number == len(model.layers) - 1)
    ops.enter(model.head.name)
    return ops.linear(model.head, ops.norm(model.norm, ops.last(x)))


def block(ops: Ops[T], layer: Named, x: T, final: bool) -> T:
    """One layer; the ``final`` one may return the last position's row alone."""
    ops.enter(layer.attention.name)
    normed = asked = ops.norm(layer.attention_norm, x)
    if final:
        asked, x = ops.narrow(layer, normed, x)
    x = ops.add(x, attention(ops, layer.attention, asked, normed))
    ops.enter(layer.mlp.name)
    return ops.add(x, mlp(ops, layer.mlp, ops.norm(layer.mlp_norm, x)))


def attention(ops: Ops[T], part: Named, asked: T, x: T) -> T:
    """Queries of ``asked`` over keys and values of ``x``."""
    query, key, value = (heads(ops, part, which, asked if which == "q" else x) for which in "qkv")
    return ops.linear(part.output, ops.attend(part.core, query, key, value))


def heads(ops: Ops[T], part: Named, which: str, x: T) -> T:
    """One projection with its optional norm, as the core takes it."""
    core, norm = part.core, {"q": part.q_norm, "k": part.k_norm, "v": None}[which]
    y = ops.split_heads(ops.linear(getattr(part, which), x), core.heads if which == "q" else core.kv_heads, core.head_dim)
    return ops.into_core(part, which, y if norm is None else ops.norm(norm, y))


def mlp(ops: Ops[T], part: Named, x: T) -> T:
    activated = ops.activate(part.activation, ops.linear(part.gate, x))
    return ops.linear(part.down, ops.multiply(activated, ops.linear(part.up, x)))
