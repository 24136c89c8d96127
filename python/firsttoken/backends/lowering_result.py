"""What a lowering returns: the facts about written artifacts that the manifest records."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from firsttoken.bundle.manifest import Artifact, State


@dataclass
class Lowered:
    """``artifacts`` as the manifest describes them, the CPU's first; ``notes`` are lines a user should read."""

    artifacts: list[Artifact]
    notes: list[str] = field(default_factory=list)


def key_value_states(
    held_by: Literal["host", "artifact"], shape: list[int | str], axis: int, dtypes: Iterable[str], length: int, step: int = 1
) -> list[State]:
    """Returns a KV cache as the manifest describes it, one state a layer; ``dtypes`` are the layers' in their order."""
    return [
        State(layer=n, kind="key_value", held_by=held_by, shape=shape, dtype=dtype, advances="append", axis=axis, length=length, step=step)
        for n, dtype in enumerate(dtypes)
    ]
