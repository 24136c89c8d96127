"""What a file is made of, without our names of layers: stored weights by type, and how much of each graph the delegate took."""

from collections import Counter
from dataclasses import dataclass, field

BITS = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4}
UNREAD = "unread"  # scales that are there, and that no one here can read
ON_INTEGERS = " on integers"  # after the kind of a product whose input comes as integers
COARSEST = ("int2", "int4", "int8", "fp16", "fp32")


@dataclass(frozen=True)
class Matrix:
    """One stored weight of two dimensions. ``scales``: "row", "tensor", "group of N", `UNREAD` or empty; ``bytes`` are the weight's own.

    ``users`` are the operators that read it; ``shifted``: zero points other than 0.
    """

    shape: tuple[int, ...]
    stored: str
    bytes: int
    scales: str = ""
    users: frozenset[str] = frozenset()
    shifted: bool = False


@dataclass(frozen=True)
class Graph:
    """One graph: its operators, and how many of them run outside the delegate, by kind. ``unknown`` says why that could not be asked."""

    name: str
    operators: int
    outside: dict[str, int] = field(default_factory=dict)
    unknown: str = ""
    counted: str = "operators"

    @property
    def taken(self) -> int:
        return self.operators - sum(self.outside.values())


@dataclass(frozen=True)
class Structure:
    """``others`` are constants that are no matrices (biases, norms): ``{type: (how many, bytes)}``. ``cache`` is what keys and values are kept in."""

    matrices: list[Matrix]
    others: dict[str, tuple[int, int]]
    graphs: list[Graph]
    cache: str = "unknown"

    @property
    def coarsest(self) -> str:
        """The precision of the matrices with the fewest bits."""
        stored = {matrix.stored for matrix in self.matrices}
        return next((kind for kind in COARSEST if kind in stored), "unknown")

    @property
    def plan(self) -> str:
        """What it is stored in, in a word or two, for the column of a plan."""
        return "/".join(kind for kind, _ in Counter(matrix.stored for matrix in self.matrices).most_common()) or "unknown"
