"""Proving a bundle on emulated ARM: the same file and text as on the host, on the kernels that a phone runs."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firsttoken.arm.cores import DEFAULT_CORE, Core, find_core
from firsttoken.arm.emulator import Runtime, check_parts, runtime_version, runtimes_of
from firsttoken.arm.kernels import TRANSLATED, kinds_that_ran, missed_kinds
from firsttoken.arm.runner import ArmRunner
from firsttoken.backends.registry import find_backend, resolve_for_cpu
from firsttoken.bundle.manifest import ArmProof, Proof, read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import open_decoder, parameter_count, plan_layers
from firsttoken.progress import Report, silent
from firsttoken.prove.compare import Compared, compare
from firsttoken.prove.divergence import figures
from firsttoken.prove.expected import Expected, expectations
from firsttoken.prove.prove import held_out_text, own_checkpoint, proof_windows
from firsttoken.prove.record import record
from firsttoken.prove.verdict import sum_up
from firsttoken.prove.windows import Window
from firsttoken.prove.windows import proof_limits as host_limits
from firsttoken.run.open import open_runner
from firsttoken.tokenizer import open_tokenizer

# What a proof may cost without being asked for more: an emulated core multiplies about 2e8 weights a second in FP16,
# which it takes longest for. The demo checkpoint takes half a minute.
WEIGHT_TOKENS = 8e9
MOST_TOKENS, FEWEST_TOKENS = 640, 64
MOST_POSITIONS = 512


@dataclass(frozen=True)
class ArmResult:
    """A bundle on one core and runtime: both sides' proofs over the same positions, and what goes into the manifest."""

    runtime: str  # with its version
    core: str
    host: Proof
    arm: Proof
    summary: ArmProof

    @property
    def misses(self) -> list[str]:
        return self.arm.misses


def prove_on_arm(
    bundle: str | Path,
    checkpoint: str | Path | Checkpoint,
    core: str = DEFAULT_CORE,
    held_out: str | Path | None = None,
    windows: int | None = None,
    threads: int | None = None,
    report: Report = silent,
    most: tuple[int, int] | None = None,
) -> list[ArmResult]:
    """Runs the artifact on an emulated core and on the host, on the same held-out text; one result for each runtime.

    A bundle for every TensorFlow Lite (``tflite-compat``) is also run on the oldest. ``windows`` asks for a number of
    windows of text instead of about a minute's worth, ``most`` for other bounds in tokens and positions, ``threads``
    are the host's. The host's figures are this release's runtime's. Misses are the plan's bounds on ARM, and
    precisions whose instructions did not run there; a missed bound is not an error here.

    What passed is recorded in the manifest, what failed is removed from it. Raises `FirstTokenError` if the bundle is
    damaged or was made from another checkpoint, or if the emulated machine is not set up.
    """
    folder, chosen = Path(bundle), find_core(core)
    manifest = read_manifest(folder)
    check_parts(runtimes_of(manifest.cpu.backend))
    source = own_checkpoint(folder, manifest, checkpoint)
    decoder = open_decoder(source)
    name, text = held_out_text(source.folder, held_out)
    stretches = proof_windows(text, open_tokenizer(folder, manifest), decoder, manifest, most or emulation_limits(decoder), windows)
    backend, precisions = find_backend(manifest.cpu.backend), resolve_for_cpu(manifest.plan, decoder, manifest.target)
    expected = expectations(source, decoder, manifest, stretches, precisions, backend, report)
    host = open_runner(folder, threads, kept=False)
    try:
        on_host = compare(host, stretches, expected, report, "host", keep=True)
    finally:
        host.close()
    host_proof = sum_up(manifest, on_host, stretches, name, text)
    results = []
    for runtime in runtimes_of(manifest.cpu.backend):
        label = f"{runtime.name} {runtime_version(runtime)}"
        assert on_host.logits is not None, "they were to be kept"
        on_arm, ran = run_on(folder, chosen, runtime, stretches, expected, on_host.logits, f"{label} on {core}", report)
        proof = sum_up(manifest, on_arm, stretches, name, text)
        proof.misses += missed_kinds(ran, precisions, plan_layers(decoder), backend.native_fp16, chosen)
        proof.passed = not proof.misses
        assert on_arm.from_host is not None, "it was given the host's logits"
        summary = ArmProof(
            core=core, runtime=runtime.name, runtime_version=runtime_version(runtime), text=name, text_sha256=proof.text_sha256,
            windows=len(stretches), arm=proof.all, host=host_proof.all,
            arm_against_host=figures(on_arm.from_host, np.ones(len(on_arm.kinds), bool)), kernels=ran,
        )  # fmt: skip
        record(folder, manifest.facts(manifest.cpu).sha256, core, runtime.name, summary if proof.passed else None)
        results.append(ArmResult(label, core, host_proof, proof, summary))
    return results


def emulation_limits(decoder: Decoder) -> tuple[int, int]:
    """Returns the most tokens and the most compared positions for a model of this size."""
    tokens = int(min(MOST_TOKENS, max(FEWEST_TOKENS, WEIGHT_TOKENS / parameter_count(decoder))))
    return tokens, min(MOST_POSITIONS, host_limits(decoder)[1])


def run_on(
    folder: Path,
    core: Core,
    runtime: Runtime,
    windows: list[Window],
    expected: Expected,
    host: np.ndarray,
    stage: str,
    report: Report,
) -> tuple[Compared, list[str]]:
    """Runs all windows on an emulated core; returns what was computed and the kinds of multiply instructions that ran."""
    with tempfile.TemporaryDirectory(prefix="firsttoken-arm-") as scratch:
        log = Path(scratch, "translated")
        report(stage, 0, len(expected.reference), "positions")
        runner = ArmRunner(folder, core, runtime, (*TRANSLATED, "-D", str(log)))
        try:
            seen = compare(runner, windows, expected, report, stage, host=host)
        finally:
            runner.close()
        return seen, kinds_that_ran(log)
