"""What a manifest says of a proof on a GPU."""

from firsttoken.bundle.figures import Figures, TwinFigures
from firsttoken.bundle.part import Part


class GpuProof(Part):
    """A passed proof through LiteRT's GPU accelerator: figures there, on the CPU over the same positions, and between the two.

    ``device`` is what it ran on, "WebGPU on a software device" with ``driver``; no phone's GPU was. ``last_position`` is the largest position that was
    run; ``compile_seconds`` is what loading took, in which the accelerator makes its kernels; ``text`` is named by its SHA-256.
    """

    device: str
    driver: str
    runtime_version: str
    text: str
    text_sha256: str
    windows: int
    last_position: int
    compile_seconds: float
    twin: TwinFigures | None = None
    prefill: Figures
    decode: Figures
    all: Figures
    cpu: Figures
    gpu_against_cpu: Figures
