"""llama.cpp on the CPU, and with its GGUF file whatever is built on it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from firsttoken.backends.gguf.families import check_family, written
from firsttoken.backends.gguf.storage import BLOCK
from firsttoken.backends.interface import Backend, Estimate, LoweringJob
from firsttoken.backends.lowering_result import Lowered
from firsttoken.backends.runner import Runner
from firsttoken.bundle.manifest import Artifact, AuditRow, Manifest
from firsttoken.decoder.features import SLIDING_WINDOW
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need
from firsttoken.precisions import PRECISIONS, WeightGrid
from firsttoken.progress import Report, silent
from firsttoken.quant.plan import Plan
from firsttoken.targets.target import Target

if TYPE_CHECKING:
    from torch import nn

MIB = 1 << 20
WORDS = 64  # bytes of the file for a token, its merge and its kind; measured 40 to 50


class GgufLlamacpp(Backend):
    """Weights in F32, F16, Q8_0 (INT8 in blocks of 32) and Q4_0 (INT4 in blocks of 32); the package gguf writes no K-quants."""

    name = "gguf-llamacpp"
    runtime = "gguf"
    delegate = None
    artifact_file = "model.gguf"
    package = "llama-cpp-python"
    extra = "gguf"
    runtime_memory = 60 * MIB
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "linear": ("fp32", "fp16", "int8", "int4"),
        "embedding": ("fp32", "fp16", "int8", "int4"),
        "core": ("fp32", "fp16"),
    }
    features = frozenset(
        {
            "rotary positions", "attention without positions", "norms of query and key heads", SLIDING_WINDOW, "a cap on attention scores",
            "a cap on logits", "silu in a gated MLP", "gelu_tanh in a gated MLP", "relu2 in an ungated MLP",
        }
    )  # fmt: skip
    weight_grid = WeightGrid(blocks=BLOCK)
    native_fp16 = False
    one_cache = True
    half_gelu = True
    shares_tied = True
    row_scale_bytes = 0

    def activations(self, precision: str) -> str:
        return {"fp16": "fp16-input", "fp32": "fp32"}.get(precision, "int8-blocks")

    def computed(self, precision: str) -> frozenset[str]:
        return frozenset({precision})

    def check_model(self, decoder: Decoder, target: Target) -> None:
        written(decoder)
        super().check_model(decoder, target)
        check_family(decoder, target.cache_length)

    def check_plan(self, plan: Plan, decoder: Decoder, precisions: Mapping[str, str], target: Target) -> None:
        from firsttoken.backends.gguf.plan_rules import check_plan

        check_plan(plan, decoder, precisions, target)

    def check_search(self, decoder: Decoder, target: Target) -> None:
        if written(decoder).fused or not written(decoder).own_head:
            raise FirstTokenError(
                f"target {target.name!r}: several layers of {decoder.family} are one tensor there, and a search chooses layer by layer; search for onnx-cpu, or write a plan"
            )

    def check_runs(self, purpose: str) -> None:
        need("gguf-run", purpose)

    def check_tools(self, target: Target, prove: bool) -> None:
        if prove:
            need("gguf-run", f"target {target.name!r}: the proof of a GGUF file (or leave it out with --no-prove)")

    def estimate(self, decoder: Decoder, precisions: Mapping[str, str], target: Target, prove: bool) -> Estimate:
        layers = [layer for layer in plan_layers(decoder) if layer.shape is not None and not (layer.name == "head" and decoder.tied_head)]
        sizes = [layer.matrix[1][0] * layer.matrix[1][1] * PRECISIONS[precisions[layer.name]].bits * 9 // 64 for layer in layers]
        return Estimate(self.runtime_memory + 2 * max(sizes) + 1024 * decoder.vocab_size, sum(sizes) + WORDS * decoder.vocab_size + MIB)

    def lower(self, job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
        from firsttoken.backends.gguf.lower import lower_decoder

        return lower_decoder(job, path, report)

    def audit(self, path: Path, decoder: Decoder, precisions: Mapping[str, str]) -> list[AuditRow]:
        from firsttoken.backends.gguf.audit import audit

        return audit(path, decoder, precisions)

    def verify(self, folder: Path, artifact: Artifact) -> None:
        from firsttoken.gguf_file.header import read_header

        if not read_header(folder / artifact.file).tensors:
            raise FirstTokenError(f"{folder / artifact.file}: holds no tensors; export again")

    def open_runner(self, folder: Path, manifest: Manifest, artifact: Artifact, threads: int | None = None, kept: bool = True) -> Runner:
        from firsttoken.backends.gguf.runner import LlamaCppRunner

        return LlamaCppRunner(folder / artifact.file, manifest, artifact.states[0].dtype, threads)

    def weight_rounding(self, precision: str, kind: str, group: int) -> "nn.Module":
        from firsttoken.backends.gguf.rounding import BlockRounding

        return BlockRounding(precision)

    def activation_rounding(self, precision: str, group: int, columns: int) -> "nn.Module":
        from firsttoken.backends.gguf.rounding import BlockRounding

        return BlockRounding("states")

    def preload(self) -> None:
        from firsttoken.backends.gguf.llamacpp import library

        library()
