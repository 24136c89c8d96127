"""A module as everything here takes it: a program of torch.export, and what its inputs and outputs are called."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.export import ExportedProgram

InputType = Literal["float32", "int32", "int64"]


@dataclass(frozen=True)
class ModuleInput:
    """One input. A dimension is a number, or the name of one that the host chooses, as in ``("batch", "length")``."""

    name: str
    dtype: InputType
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class ModuleOutput:
    """One output; its dimensions are named as the inputs' are."""

    name: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Module:
    """What is exported, and against what the written file is held.

    ``example`` are inputs in the order of ``inputs``, with a batch of 2. ``lengths`` gives every dimension with a name, "batch" too, the values for which a
    runtime without dynamic ones gets a graph each; values ascend. ``labels`` name the classes of the one output where there are any.
    """

    name: str
    program: ExportedProgram
    inputs: tuple[ModuleInput, ...]
    outputs: tuple[ModuleOutput, ...]
    example: tuple[Tensor, ...]
    fingerprint: str
    lengths: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    def run(self, *inputs: Tensor) -> dict[str, Tensor]:
        """What the float module gives, by the outputs' names."""
        with torch.no_grad():
            given = self.program.module()(*inputs)
        values = list(given.values()) if isinstance(given, dict) else list(given) if isinstance(given, tuple | list) else [given]
        return {output.name: value for output, value in zip(self.outputs, values, strict=True)}
