"""What a backend is for modules: the same door as `interface.Backend`, for programs that have no cache and no tokens."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from firsttoken.bundle.manifest import AuditRow
from firsttoken.modules.layers import ModuleLayer
from firsttoken.modules.module import Module
from firsttoken.progress import Report, silent


@dataclass(frozen=True)
class ModuleJob:
    """A module and every layer's precision by the plan. ``samples`` are inputs for calibration, by the inputs' names, each ``[samples, …]``; empty where the plan
    has no calibrated ranges. ``range_method`` says how ranges follow from them."""

    module: Module
    layers: Sequence[ModuleLayer]
    precisions: Mapping[str, str]
    samples: Mapping[str, np.ndarray] = field(default_factory=dict)
    range_methods: Mapping[str, str] = field(default_factory=dict)
    """By the layer's name: "min-max", "percentile" or "mse"."""


@dataclass(frozen=True)
class ArtifactTensor:
    """An input or output as the file has it, under the name that the file gives it (``file_name``) and the module's. A number rounded to integers is
    ``scale * (integer - zero_point)``."""

    name: str
    file_name: str
    dtype: str
    shape: tuple[int | str, ...]
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class ModuleMethod:
    """One entry of the artifact; ``sizes`` are those of the named dimensions that it is for, empty where it takes any."""

    name: str
    inputs: tuple[ArtifactTensor, ...]
    outputs: tuple[ArtifactTensor, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LoweredModule:
    """What was written: its methods, and ``layers`` as `ModuleBackend.audit` needs to find them again: facts of the backend's own, of plain JSON values."""

    methods: tuple[ModuleMethod, ...]
    layers: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class ModuleRunner(ABC):
    """A loaded artifact."""

    @abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What it gives for inputs by the module's names, in float32 (integers of a rounded output are multiplied out), by the outputs' names.

        Batches and lengths that a fixed graph does not have go in pieces, or are refused with a `FirstTokenError` that names those it has."""

    @abstractmethod
    def close(self) -> None: ...


class ModuleBackend(ABC):
    """One runtime with one delegate, for modules."""

    name: ClassVar[str]
    artifact_file: ClassVar[str]
    package: ClassVar[str]
    precisions: ClassVar[Mapping[str, tuple[str, ...]]]
    """What a layer can be, by its kind (`modules.layers.Kind`)."""

    def why_not(self, layer: ModuleLayer, precision: str) -> str:
        """Why a layer of this kind cannot have a precision, with what it costs where it was measured; empty where there is no more to say."""
        return ""

    @abstractmethod
    def lower(self, job: ModuleJob, path: Path, report: Report = silent) -> LoweredModule:
        """Writes the artifact to ``path``. Raises `FirstTokenError` for a layer that did not become what was asked, or an operator that the runtime lacks."""

    @abstractmethod
    def audit(self, path: Path, lowered: LoweredModule, layers: Sequence[ModuleLayer], precisions: Mapping[str, str]) -> list[AuditRow]:
        """What every layer of the written file is stored and computed in, and whether the delegate took it: read from the file."""

    @abstractmethod
    def open(self, path: Path, methods: Sequence[ModuleMethod], threads: int | None = None) -> ModuleRunner:
        """Loads the artifact. Raises `FirstTokenError` for a damaged file."""
