"""Where a decoder's weights come from: tensors of a checkpoint, parts of them, or several together."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A weight as a decoder wants it, whatever the checkpoint stores: tensor ``name``, taken so and streamed.

    ``rows``: only these, ``(start, stop)``, of a matrix that holds several weights. ``order``: row ``order[i]`` of every
    ``len(order)`` neighbouring rows comes at place ``i``; with ``period``, of every so many neighbouring rows, of which the others are
    left to other weights. Then every value is multiplied by ``scale`` and ``add`` is added.
    """

    name: str
    rows: tuple[int, int] | None = None
    order: tuple[int, ...] | None = None
    add: float = 0.0
    scale: float = 1.0
    period: int | None = None

    def spans(self, count: int) -> list[tuple[int, int]]:
        """Where the ``count`` rows that it gives lie in the stored tensor, ``(start, stop)`` each, in the order in which they are stored."""
        first = self.rows[0] if self.rows else 0
        if self.order is None or self.period is None:
            return [(first, first + count)]
        assert max(self.order) - min(self.order) + 1 == len(self.order), "what is taken of a period lies together"
        begins = range(first, first + count // len(self.order) * self.period, self.period)
        return [(begin + min(self.order), begin + max(self.order) + 1) for begin in begins]

    def pieces(self, shape: tuple[int, ...]) -> Iterator[tuple["Source", tuple[int, ...]]]:
        """What is taken from every single tensor, for a weight of ``shape``, with that part's shape."""
        yield self, shape


@dataclass(frozen=True)
class Stack(Source):
    """One matrix of ``count`` tensors of one shape, one below the other or, ``beside``, one next to the other; their names are ``name`` with
    their numbers, from 0, in place of ``{}``. What else a `Source` says is done with each. Only the rows asked for are in memory."""

    count: int = 1
    beside: bool = False

    def piece(self, number: int) -> Source:
        return Source(self.name.replace("{}", str(number)), self.rows, self.order, self.add, self.scale)

    def pieces(self, shape: tuple[int, ...]) -> Iterator[tuple[Source, tuple[int, ...]]]:
        own = tuple(size // self.count if axis == int(self.beside) else size for axis, size in enumerate(shape))
        yield from ((self.piece(number), own) for number in range(self.count))
