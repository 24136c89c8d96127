"""What a manifest says of a system prompt whose keys and values lie in the bundle."""

from typing import Literal

from pydantic import Field

from firsttoken.bundle.part import Part

Stored = Literal["fp32", "fp16", "int8"]


class PrefixProof(Part):
    """What the kept prefix gives beside the same tokens computed, each followed by the same questions: whether all logits are equal to the bit, and
    the KL divergence in nats over ``positions``, the first of every answer."""

    equal_bits: bool
    mean_kld: float = Field(ge=0)
    worst_kld: float = Field(ge=0)
    positions: int = Field(ge=1)


class PrefixFacts(Part):
    """The tokens that every conversation with this ``system`` message begins with, and the file of what the CPU artifact's cache holds of them.

    ``stored``: the file's numbers; "int8" with a scale for every row of a head. ``computed_with``: the runtime's package and version.
    """

    file: str
    system: str
    tokens: list[int] = Field(min_length=1)
    stored: Stored
    computed_with: str
