"""What a manifest says of an artifact for a GPU, and of a proof on one."""

from typing import Literal

from pydantic import Field

from firsttoken.bundle.figures import Figures, TwinFigures
from firsttoken.bundle.part import Part


class GpuFacts(Part):
    """How the host drives an artifact for a GPU (docs/gpu.md has it step by step).

    Methods are ``prefill_N`` for every N of ``prefill_lengths``, which fill the cache and give nothing else, and ``decode``, which gives ``logits``. All
    shapes are fixed. The host feeds ``tokens`` (padded with 0 behind), ``input_pos`` (the positions, counted on over the padding) and ``mask``, which is
    0 where a token may look, at its own row and those before it, and ``masked`` everywhere else. The caches are in and out of a call under one name, one
    buffer each, zeros at first: the call writes its rows at ``input_pos`` by itself. ``precision`` is the arithmetic to ask the accelerator for, in which the proof ran.
    ``weights`` is the file that it takes its weights from, which has to lie in its folder under that name; None where it holds them itself.
    """

    prefill_lengths: list[int] = Field(min_length=1)
    masked: float
    precision: Literal["fp32"]
    weights: str | None = None


class GpuProof(Part):
    """A proof through LiteRT's GPU accelerator: figures there, on the CPU over the same positions, and between the two.

    ``device`` is what it ran on, "WebGPU on a software device" with ``driver``; no phone's GPU was. ``last_position`` is the largest position that was
    run, ``methods`` those that were loaded (empty in older proofs: all of them); ``compile_seconds`` is what loading took, in which the accelerator makes its kernels; ``text`` is named by its SHA-256.
    """

    device: str
    driver: str
    runtime_version: str
    text: str
    text_sha256: str
    windows: int
    last_position: int
    methods: list[str] = Field(default_factory=list)
    compile_seconds: float
    twin: TwinFigures | None = None
    prefill: Figures
    decode: Figures
    all: Figures
    cpu: Figures
    gpu_against_cpu: Figures
    passed: bool = True
    misses: list[str] = Field(default_factory=list)
