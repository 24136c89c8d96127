"""Proving a bundle on a GPU: the same text as on the host, through LiteRT's GPU accelerator on a software device."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from firsttoken.backends.gpu.cost import Cost, running_cost
from firsttoken.backends.gpu.device import DEVICE, device_version, is_set_up, setup_command
from firsttoken.backends.gpu.part import DECODE, prefill_lengths
from firsttoken.backends.interface import Backend
from firsttoken.backends.registry import find_backend
from firsttoken.backends.runner import Runner
from firsttoken.bundle.gpu_facts import GpuProof
from firsttoken.bundle.manifest import Artifact, AuditRow, Manifest, Proof, read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import parameter_count
from firsttoken.errors import FirstTokenError
from firsttoken.machine import MARGIN, available_memory
from firsttoken.progress import Report, silent
from firsttoken.prove.gate import missed_structure
from firsttoken.prove.ground import FEWEST_COMPARED, Ground, apart, open_ground
from firsttoken.prove.record import record_on_gpu
from firsttoken.prove.verdict import sum_up
from firsttoken.prove.windows import proof_limits as host_limits
from firsttoken.units import lasting, readable

FULLY = 10**7  # weights up to which every position of the CPU's proof is run; that takes about two minutes
BRIEFLY = 600, 64  # tokens and positions of such a model where an export asks: half a minute
# What the proof of a larger model may cost without being asked for more: a token takes SmolLM2's 135 M weights 3 s.
WEIGHT_TOKENS = 1.4e10
FEWEST_TOKENS = 96
LARGE = 3 * 10**8  # weights past which a stated sample is run, and two graphs loaded: the accelerator holds the weights once for each


@dataclass(frozen=True)
class GpuResult:
    """A bundle on the software GPU and on the CPU: both proofs over the same positions, what goes into the manifest, and the layers as ``backend`` reads them."""

    cpu: Proof
    gpu: Proof
    summary: GpuProof
    audit: list[AuditRow]
    backend: Backend

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
    say: Callable[[str], None] = lambda line: None,
    briefly: bool = False,
    recorded: bool = True,
) -> GpuResult:
    """Runs the bundle's artifact for a GPU, or the one that is for both, on the software GPU, and the CPU's, on the same held-out text, prefill and decode.

    ``windows`` asks for a number of windows of text, ``most`` for other bounds in tokens and positions; otherwise a model up to `FULLY` weights
    is run at all positions of the CPU's proof, over the whole cache (``briefly``: as an export does, at some), and a larger one at fewer; past `LARGE`
    a sample, through decode and the shortest prefill alone. ``threads`` are the CPU's; ``say`` is told what it will take before it starts. Misses are the plan's
    bounds on the GPU, its twin there (weights rounded, nothing else), and layers that are not as asked; a missed bound is not an error here.

    Where ``recorded``, what passed is put into the manifest, and what failed removed from it. Raises `FirstTokenError` if the bundle is
    damaged, has nothing for a GPU or was made from another checkpoint, if the software GPU is not set up, there is not the memory, or if the accelerator
    does not take every operator.
    """
    folder = Path(bundle)
    manifest = read_manifest(folder)
    artifact = manifest.gpu_artifact or manifest.cpu
    kernels = find_backend(artifact.backend).on_gpu()
    driver = device_version()

    def limits(decoder: Decoder) -> tuple[int, int] | None:
        return software_limits(decoder) or (BRIEFLY if briefly else None)

    ground = open_ground(folder, manifest, checkpoint, held_out, limits, LARGE, windows, most, report)
    kernels.verify(folder, artifact)
    loaded = to_load(artifact, parameter_count(ground.decoder))
    cost = cost_of(ground, loaded)
    need_memory(cost)
    say(
        f"proof on the software GPU: {sum(len(window.positions) for window in ground.windows)} positions, up to position {ground.last_position}, "
        f"through {', '.join(method.name for method in loaded.methods)}; about {lasting(cost.seconds)} and {readable(cost.memory)} of memory"
    )
    rows = kernels.audit(folder / artifact.file, ground.decoder, ground.asked)
    cpu = ground.cpu(threads, report)
    took = 0.0

    def opened() -> Runner:
        nonlocal took
        report("loading for the GPU", 0, 1, "file")
        started = time.monotonic()
        runner = kernels.open_runner(folder, manifest, loaded, threads, kept=False)
        took = time.monotonic() - started
        return runner

    gpu = ground.other(opened, kernels, cpu, report, "software GPU")
    cpu_proof, gpu_proof = (sum_up(manifest, each, ground.windows, ground.name, ground.text, FEWEST_COMPARED) for each in (cpu, gpu))
    gpu_proof.misses += missed_structure(rows, ground.asked, kernels)
    gpu_proof.passed = not gpu_proof.misses
    summary = GpuProof(
        device=DEVICE, driver=driver, runtime_version=version(kernels.package), text=ground.name, text_sha256=gpu_proof.text_sha256,
        windows=len(ground.windows), last_position=int(gpu.positions.max()), methods=[method.name for method in loaded.methods],
        compile_seconds=round(took, 2), twin=gpu_proof.twin, prefill=gpu_proof.prefill, decode=gpu_proof.decode, all=gpu_proof.all,
        cpu=cpu_proof.all, gpu_against_cpu=apart(gpu), passed=gpu_proof.passed, misses=gpu_proof.misses,
    )  # fmt: skip
    result = GpuResult(cpu_proof, gpu_proof, summary, rows, kernels)
    if recorded:
        record_on_gpu(folder, manifest, artifact, summary if gpu_proof.passed else None, rows)
    return result


def why_not(bundle: str | Path, manifest: Manifest, decoder: Decoder) -> str | None:
    """Why an export does not prove the artifact for a GPU here, and what to do; None where it does."""
    again = f"`firsttoken prove {bundle} --checkpoint … --on gpu`"
    if not is_set_up():
        return f"the software GPU is not set up (run {setup_command()}, then {again})"
    assert manifest.gpu_artifact is not None, "the caller asked"
    weights = parameter_count(decoder)
    cost = running_cost(weights, prefill_lengths(to_load(manifest.gpu_artifact, weights)), [])
    try:
        need_memory(cost)
    except FirstTokenError as error:
        return f"{error}, then {again}"
    return None


def software_limits(decoder: Decoder) -> tuple[int, int] | None:
    """The most tokens and compared positions for a model of this size; None for a small one, which is run as on the CPU."""
    weights = parameter_count(decoder)
    if weights <= FULLY:
        return None
    tokens = int(max(FEWEST_TOKENS, WEIGHT_TOKENS / weights))
    return tokens, min(host_limits(decoder)[1], tokens // 4)


def to_load(artifact: Artifact, weights: int) -> Artifact:
    """The artifact with the methods that a proof of a model of so many weights loads."""
    if weights <= LARGE:
        return artifact
    names = {DECODE, f"prefill_{prefill_lengths(artifact)[0]}"}
    return artifact.model_copy(update={"methods": [method for method in artifact.methods if method.name in names]})


def cost_of(ground: Ground, loaded: Artifact) -> Cost:
    steps = [(kind, start, stop) for window in ground.windows for kind, start, stop, _ in window.steps()]
    return running_cost(parameter_count(ground.decoder), prefill_lengths(loaded), steps)


def need_memory(cost: Cost) -> None:
    """Raises `FirstTokenError` if there is not the memory for a proof."""
    free = available_memory()
    if cost.memory > free * (1 - MARGIN):
        raise FirstTokenError(
            f"the proof on the software GPU needs about {readable(cost.memory)} of memory, {readable(free)} are available; "
            "close other programs or use a larger machine"
        )
