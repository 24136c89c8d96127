"""What a lowering returns: the facts about written artifacts that the manifest records."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from firsttoken.bundle.manifest import Artifact, State
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import CacheState, convolution_states, recurrent_states, states


@dataclass
class Lowered:
    """``artifacts`` as the manifest describes them, the CPU's first; ``notes`` are lines a user should read; ``beside`` the names of other files
    that were written with them."""

    artifacts: list[Artifact]
    notes: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)


def key_value_states(
    decoder: Decoder,
    held_by: Literal["host", "artifact"],
    shape: Callable[[CacheState], list[int | str]],
    axis: int,
    dtype: Callable[[CacheState], str],
    length: int,
    step: int = 1,
    advances: Literal["append", "in_place"] = "append",
) -> list[State]:
    """Returns the KV cache as the manifest describes it, one state a layer, each of its own ``shape`` and ``dtype``.

    What a host appends to is a ring in layers with a window.
    """
    found = []
    for state in states(decoder):
        ring = state.window is not None and advances == "append" and held_by == "host"
        found.append(
            State(
                layer=state.layer, kind="key_value", held_by=held_by, shape=shape(state), dtype=dtype(state),
                advances="ring" if ring else advances, axis=axis, length=state.rows(length) if ring else length, window=state.window, step=step,
            )
        )  # fmt: skip
    return found


def with_convolutions(cache: list[State], decoder: Decoder, held_by: Literal["host", "artifact"]) -> list[State]:
    """The states of a KV cache and what the layers with a convolution or a delta rule remember, in the layers' order."""
    lead = [1] if held_by == "artifact" else []
    inputs = [
        State(
            layer=state.layer, kind="convolution", held_by=held_by, shape=[*lead, state.rows, state.channels], dtype="float32",
            advances="replace", axis=len(lead), length=state.rows,
        )
        for state in convolution_states(decoder)
    ]  # fmt: skip
    memory = [
        State(
            layer=state.layer, kind="recurrent", held_by=held_by, shape=[state.heads, state.key_dim, state.value_dim], dtype="float32",
            advances="replace", axis=0, length=1,
        )
        for state in recurrent_states(decoder)
    ]  # fmt: skip
    return sorted([*cache, *inputs, *memory], key=lambda state: state.layer)
