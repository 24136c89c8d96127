"""Where a bundle is proven: on this machine, on an emulated ARM core, on a software GPU, on the backend of its NPU. One result for all of them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from firsttoken.arm.cores import DEFAULT_CORE
from firsttoken.backends.interface import Backend
from firsttoken.backends.registry import find_backend
from firsttoken.bundle.manifest import AuditRow, Proof, read_manifest
from firsttoken.bundle.witness_facts import Witness
from firsttoken.checkpoint import Checkpoint
from firsttoken.checkpoint_sources.open import open_checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.foreign.open import is_file
from firsttoken.progress import Report, silent
from firsttoken.prove.on_arm import ArmResult, prove_on_arm
from firsttoken.prove.on_file import FileProof, prove_file
from firsttoken.prove.on_gpu import GpuResult, prove_on_gpu
from firsttoken.prove.on_npu import NpuResult, prove_on_npu
from firsttoken.prove.prove import held_out_text, own_checkpoint, prove
from firsttoken.prove.witness import witness as ask_transformers

Place = Literal["host", "arm", "gpu", "npu"]


@dataclass(frozen=True)
class Proven:
    """What was found; what was not asked for is empty.

    ``proof`` and ``audit`` are of the CPU artifact on this machine, ``arm`` has one result for each runtime on the
    emulated core, ``gpu`` is of the software GPU, ``npu`` of the artifact for a Snapdragon's NPU. Of a file that is no bundle, ``file`` says besides ``proof`` what it is made of.
    """

    bundle: Path
    proof: Proof | None = None
    audit: list[AuditRow] = field(default_factory=list)
    arm: list[ArmResult] = field(default_factory=list)
    gpu: GpuResult | None = None
    npu: NpuResult | None = None
    file: FileProof | None = None

    @property
    def backend(self) -> Backend:
        """What the CPU artifact was lowered by."""
        return find_backend(read_manifest(self.bundle).cpu.backend)

    @property
    def misses(self) -> list[str]:
        """Every bound that was missed, in words; empty: the bundle passed."""
        found = list(self.proof.misses) if self.proof else []
        found += [f"{result.runtime} on {result.core}: {miss}" for result in self.arm for miss in result.misses]
        found += [f"on the software GPU: {miss}" for miss in self.gpu.misses] if self.gpu else []
        return found + ([f"NPU: {miss}" for miss in self.npu.summary.misses] if self.npu else [])

    @property
    def passed(self) -> bool:
        """Whether every bound of the plan was kept."""
        return not self.misses


def prove_places(
    bundle: str | Path,
    checkpoint: str | Path | Checkpoint,
    on: Place = "host",
    cpu: str | None = None,
    windows: int | None = None,
    held_out: str | Path | None = None,
    threads: int | None = None,
    plan: str | Path | None = None,
    cache_length: int | None = None,
    begin_token: int | None = None,
    witness: bool = True,
    bar: Callable[[], AbstractContextManager[Report]] = lambda: nullcontext(silent),
    say: Callable[[str], None] = lambda line: None,
    adapter: str | Path | None = None,
) -> Iterator[Proven]:
    """Proves a bundle where ``on`` says; yields what is known so far after each part, the last one whole.

    "host" is this machine, and then the NPU artifact where the bundle has one and the CPU's passed; "arm" is an emulated
    core (``cpu``), "gpu" a software GPU, and "npu" that artifact alone, these on ``windows`` stretches of text. ``bundle`` may be a file that another exporter wrote,
    here alone; ``plan``, ``cache_length`` and ``begin_token`` are for such a file (`prove.on_file`). ``witness`` false leaves out asking
    transformers (`prove.witness`), which is done on this machine alone. ``bar`` opens a report for each part. With a LoRA ``adapter``
    the checkpoint is the base that it is merged into. Raises `FirstTokenError`.
    """
    folder = Path(bundle)
    if cpu is not None and on != "arm":
        raise FirstTokenError("--cpu goes with --on arm; add that, or leave it out")
    if windows is not None and on == "host":
        raise FirstTokenError("--windows goes with --on arm, gpu or npu; add that, or leave it out")
    if adapter is not None:
        checkpoint = open_checkpoint(checkpoint, adapter)
    if is_file(folder):
        if on != "host":
            raise FirstTokenError(f"{folder}: is a file, which is proven on this machine alone; leave out --on, or give a bundle's folder")
        with bar() as report:
            source = open_checkpoint(checkpoint)
            asked = ask_witness(source, held_out, witness, report)
            found = prove_file(folder, source, plan, cache_length, begin_token, held_out, threads, report, asked)
        yield Proven(folder, found.proof, file=found)
        return
    for name, value in (("--plan", plan), ("--cache-length", cache_length), ("--begin-token", begin_token)):
        if value is not None and folder.is_dir():  # what is not there is said below
            raise FirstTokenError(f"{name} goes with a file; bundle {folder} says it itself, leave it out")
    if on == "arm":
        with bar() as report:
            arm = prove_on_arm(folder, checkpoint, cpu or DEFAULT_CORE, held_out, windows, threads, report)
        yield Proven(folder, arm=arm)
        return
    if on == "gpu":
        with bar() as report:
            gpu = prove_on_gpu(folder, checkpoint, held_out, windows, threads, report, say=say)
        yield Proven(folder, gpu=gpu)
        return
    if on == "npu":
        with bar() as report:
            npu = prove_on_npu(folder, checkpoint, held_out, windows, threads, report, say=say, fully=True)
        yield Proven(folder, npu=npu)
        return
    with bar() as report:
        source = own_checkpoint(folder, read_manifest(folder), checkpoint)
        asked = ask_witness(source, held_out, witness, report)
        proof, audit = prove(folder, source, held_out, threads, report, asked)
    yield Proven(folder, proof, audit)
    manifest = read_manifest(folder)
    if manifest.gpu_artifact is not None and proof.passed:
        say(f"its GPU artifact, {manifest.gpu_artifact.file}, was not run: --on gpu does")
    artifact = manifest.npu_artifact
    if artifact is None or not proof.passed:
        return
    if not find_backend(artifact.backend).emulated:
        say(f"its NPU artifact, {artifact.file}, was not run: the backend {artifact.backend} has no runtime for this machine")
        return
    with bar() as report:
        npu = prove_on_npu(folder, checkpoint, held_out, None, threads, report, say=say, fully=True)
    yield Proven(folder, proof, audit, npu=npu)


def ask_witness(source: Checkpoint, held_out: str | Path | None, wanted: bool, report: Report) -> Witness:
    """What transformers says of the checkpoint, or why it was not asked."""
    return ask_transformers(source, open_decoder(source), held_out_text(source.folder, held_out)[1], wanted, report)
