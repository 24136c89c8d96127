"""What was found out about an artifact for the NPU: the graphs as they were compiled, and the proof of what they compute."""

from pydantic import Field

from firsttoken.bundle.figures import Figures, TwinFigures
from firsttoken.bundle.part import Part


class NpuGraph(Part):
    """One compiled graph: operators, how many the NPU took, in how many partitions, and what was left behind ("KIND layer: reason")."""

    method: str
    operators: int
    offloaded: int
    partitions: int
    left: list[str] = Field(default_factory=list)


class NpuProof(Part):
    """What the NPU's contexts computed on Qualcomm's HTP backend for x86, and the CPU artifact at the same positions.

    ``backend`` names it with its version; ``last_position`` is the largest position that was run; ``text`` as in `Proof`.
    """

    backend: str
    text: str
    text_sha256: str
    windows: int
    last_position: int
    twin: TwinFigures | None = None
    prefill: Figures
    decode: Figures
    all: Figures
    cpu: Figures
    npu_against_cpu: Figures
    passed: bool
    misses: list[str] = Field(default_factory=list)
