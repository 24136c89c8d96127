"""Proving a bundle on a GPU: the same file and text as on the host, through LiteRT's GPU accelerator on a software device."""

import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from firsttoken.backends.gpu.device import DEVICE, device_version
from firsttoken.backends.registry import find_backend, resolve
from firsttoken.bundle.files import check_files
from firsttoken.bundle.gpu_facts import GpuProof
from firsttoken.bundle.manifest import Proof, read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import open_decoder, parameter_count, plan_layers
from firsttoken.progress import Report, silent
from firsttoken.prove.compare import compare
from firsttoken.prove.divergence import figures
from firsttoken.prove.expected import expectations
from firsttoken.prove.gate import missed_structure
from firsttoken.prove.prove import held_out_text, own_checkpoint, proof_windows
from firsttoken.prove.record import record_on_gpu
from firsttoken.prove.verdict import sum_up
from firsttoken.prove.windows import proof_limits as host_limits
from firsttoken.run.open import open_runner
from firsttoken.tokenizer import open_tokenizer

FULLY = 10**7  # weights up to which every position of the CPU's proof is run; that takes about two minutes
# What the proof of a larger model may cost without being asked for more: a token takes SmolLM2's 135 M weights 3 s.
WEIGHT_TOKENS = 1.4e10
FEWEST_TOKENS = 96


@dataclass(frozen=True)
class GpuResult:
    """A bundle on the software GPU and on the CPU: both proofs over the same positions, and what goes into the manifest."""

    cpu: Proof
    gpu: Proof
    summary: GpuProof

    @property
    def misses(self) -> list[str]:
        return self.gpu.misses


def prove_on_gpu(
    bundle: str | Path,
    checkpoint: str | Path | Checkpoint,
    held_out: str | Path | None = None,
    windows: int | None = None,
    threads: int | None = None,
    report: Report = silent,
    most: tuple[int, int] | None = None,
) -> GpuResult:
    """Runs the artifact on the software GPU and on the CPU, on the same held-out text, prefill and decode.

    ``windows`` asks for a number of windows of text, ``most`` for other bounds in tokens and positions; otherwise a model up to `FULLY` weights
    is run at all positions of the CPU's proof, over the whole cache, and a larger one at fewer. ``threads`` are the CPU's. Misses are the plan's
    bounds on the GPU, its twin there (weights rounded, nothing else), and layers that are not as asked; a missed bound is not an error here.

    What passed is recorded in the manifest, what failed is removed from it. Raises `FirstTokenError` if the bundle is
    damaged, has nothing for a GPU or was made from another checkpoint, if the software GPU is not set up, or if the accelerator does not take
    every operator.
    """
    folder = Path(bundle)
    manifest = read_manifest(folder)
    backend = find_backend(manifest.cpu.backend)
    kernels = backend.on_gpu()
    driver = device_version()
    check_files(folder, manifest, report)
    source = own_checkpoint(folder, manifest, checkpoint)
    decoder = open_decoder(source)
    name, text = held_out_text(source.folder, held_out)
    stretches = proof_windows(text, open_tokenizer(folder, manifest), decoder, manifest, most or software_limits(decoder), windows)
    precisions = resolve(manifest.plan, decoder, manifest.target)
    asked = manifest.plan.written(plan_layers(decoder), precisions)
    rows = kernels.audit(folder / manifest.cpu.file, decoder, asked)
    on_cpu, on_gpu = (expectations(source, decoder, manifest, stretches, precisions, each, report) for each in (backend, kernels))
    runner = open_runner(folder, threads, kept=False)
    try:
        cpu = compare(runner, stretches, on_cpu, report, "CPU", keep=True)
    finally:
        runner.close()
    report("loading for the GPU", 0, 1, "file")
    started = time.monotonic()
    runner = kernels.open_runner(folder, manifest, manifest.cpu, threads, kept=False)
    took = time.monotonic() - started
    try:
        gpu = compare(runner, stretches, on_gpu, report, "software GPU", host=cpu.logits)
    finally:
        runner.close()
    cpu_proof, gpu_proof = (sum_up(manifest, each, stretches, name, text) for each in (cpu, gpu))
    gpu_proof.misses += missed_structure(rows, asked, kernels)
    gpu_proof.passed = not gpu_proof.misses
    assert gpu.from_host is not None, "it was given the CPU's logits"
    summary = GpuProof(
        device=DEVICE, driver=driver, runtime_version=version(backend.package), text=name, text_sha256=gpu_proof.text_sha256,
        windows=len(stretches), last_position=int(gpu.positions.max()), compile_seconds=round(took, 2), twin=gpu_proof.twin,
        prefill=gpu_proof.prefill, decode=gpu_proof.decode, all=gpu_proof.all, cpu=cpu_proof.all,
        gpu_against_cpu=figures(gpu.from_host, np.ones(len(gpu.kinds), bool)),
    )  # fmt: skip
    record_on_gpu(folder, manifest.facts(manifest.cpu).sha256, summary if gpu_proof.passed else None)
    return GpuResult(cpu_proof, gpu_proof, summary)


def software_limits(decoder: Decoder) -> tuple[int, int] | None:
    """The most tokens and compared positions for a model of this size; None for a small one, which is run as on the CPU."""
    weights = parameter_count(decoder)
    if weights <= FULLY:
        return None
    tokens = int(max(FEWEST_TOKENS, WEIGHT_TOKENS / weights))
    return tokens, min(host_limits(decoder)[1], tokens // 4)
