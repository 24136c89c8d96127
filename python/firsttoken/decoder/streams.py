"""What is done around a layer's block where the hidden state is several streams (AltUp, arXiv 2301.13310).

The layers' own arithmetic goes over the first stream. All streams together are one value ``[S, streams, hidden_size]``, so that a layer's
prediction is one product for each token; the first is kept apart as well, for a part of that value would be a copy.
"""

from typing import TYPE_CHECKING, TypeVar

from firsttoken.decoder.walk import Named

if TYPE_CHECKING:
    from firsttoken.decoder.forward import StreamedOps

T = TypeVar("T")


def opened(ops: "StreamedOps[T]", part: Named, x: T) -> T:
    """All streams, of the embedding's rows ``x``, which are the first."""
    ops.enter(part.name)
    return ops.stack([x, *others(ops, part, x, [x] * len(part.projections))])


def merged(ops: "StreamedOps[T]", part: Named, state: T) -> T:
    """The mean of the streams behind the last layer, each but the first projected; of the last position alone."""
    ops.enter(part.name)
    first, *rest = ops.unstack(ops.last(state), part.count)
    total = first
    for other in others(ops, part, first, rest):
        total = ops.add(total, other)
    return ops.scale(total, 1 / part.count)


def others(ops: "StreamedOps[T]", part: Named, first: T, given: list[T]) -> list[T]:
    return [ops.match(part, ops.linear(linear, x), first) for linear, x in zip(part.projections, given, strict=True)]


def predicted(ops: "StreamedOps[T]", part: Named, x: T, state: T) -> tuple[T, T]:
    """The first stream and all of them, as the layer expects them before it has computed anything."""
    ops.enter(part.name)
    routed = modalities(ops, part, x)
    return ops.mix(ops.coefficients(part.prediction, routed, first=True), state), ops.mix(ops.coefficients(part.prediction, routed), state)


def corrected(ops: "StreamedOps[T]", part: Named, x: T, state: T, computed: T) -> tuple[T, T]:
    """The same after the layer has ``computed`` the first stream anew from its prediction ``x``."""
    ops.enter(part.name)
    routed, surprise = modalities(ops, part, computed), ops.subtract(computed, x)
    first = ops.add(x, ops.multiply(surprise, ops.coefficients(part.correction, routed, first=True)))
    return first, ops.add(state, ops.spread(surprise, ops.coefficients(part.correction, routed), part.router.rows))


def modalities(ops: "StreamedOps[T]", part: Named, x: T) -> T:
    """What a token is, in as many numbers from -1 to 1 as there are streams."""
    return ops.activate("tanh", ops.coefficients(part.router, ops.norm(part.norm, x)))
