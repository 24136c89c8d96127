"""``firsttoken prove``"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from firsttoken.cli.options import Audit, BundleFolder, Checkpoint, HeldOut, Threads, Verbose


class Place(StrEnum):
    host = "host"
    arm = "arm"
    npu = "npu"


def prove(
    bundle: BundleFolder,
    checkpoint: Checkpoint,
    on: Annotated[
        Place,
        typer.Option(
            "--on",
            help="Where to run it: here (with the NPU artifact, if any), also on an emulated ARM core (scripts/setup_arm), or the NPU artifact alone.",
        ),
    ] = Place.host,
    cpu: Annotated[
        str | None,
        typer.Option("--cpu", metavar="CORE", help="With --on arm: cortex-a76 (the default), neoverse-v1 or cortex-a53."),
    ] = None,
    windows: Annotated[
        int | None,
        typer.Option(
            "--windows", min=1, help="With --on arm or npu: how many stretches of the text to run (default: one or two minutes' worth)."
        ),
    ] = None,
    held_out: HeldOut = None,
    threads: Threads = None,
    audit: Audit = False,
    verbose: Verbose = False,
):
    """Compare a bundle with its checkpoint.

    Runs the written file in its own runtime, prefill and decode, on held-out text, and looks at every layer.

    With --on arm it also runs it on an emulated ARM core, whose kernels are a phone's and not this machine's. A core
    that it passes on is recorded in the bundle's manifest. What is printed there is about numbers, never about time.

    A bundle for a Hexagon NPU has its compiled graphs run on Qualcomm's HTP backend for x86, beside its CPU artifact: of a
    model up to 10 M weights every position that the CPU's proof runs, which takes minutes and is said first; export runs
    two minutes' worth. --windows asks for less, or for more of a larger model.

    \b
    Examples:
      firsttoken prove out/tflite-xnnpack --checkpoint path/to/checkpoint --audit
      firsttoken prove out/tflite-xnnpack --checkpoint path/to/checkpoint --on arm --cpu cortex-a53
      firsttoken prove out/tflite-hexagon-sm8550 --checkpoint path/to/checkpoint --on npu --windows 3
    """
    if on is Place.arm:
        return prove_on_arm(bundle, checkpoint, cpu, windows, held_out, threads, audit)
    from firsttoken.errors import FirstTokenError, GateError

    if on is Place.npu and cpu is None:
        return prove_on_npu(bundle, checkpoint, windows, held_out, threads, audit)
    if cpu is not None or windows is not None:
        raise FirstTokenError(
            f"{'--cpu' if cpu is not None else '--windows'} goes with --on arm{' or --on npu' if cpu is None else ''}; add that, or leave it out"
        )
    from firsttoken.bundle.manifest import read_manifest
    from firsttoken.prove.prove import prove as run
    from firsttoken.report.progress_bar import progress_bar
    from firsttoken.report.tables import audit_summary, audit_table, console, proof_table

    with progress_bar() as report:
        proof, rows = run(bundle, checkpoint, held_out, threads, report)
    out = console()
    print(f"{bundle}: against the checkpoint in FP32, on {proof.text}")
    out.print(proof_table(proof))
    if audit:
        out.print(audit_table(rows))
    else:
        print("\n".join(f"  {line}" for line in audit_summary(rows)))
    if not proof.passed:
        raise GateError(f"{bundle}: the proof failed: {'; '.join(proof.misses)}")
    print("proven: every bound of the plan is kept and every layer is as asked")
    manifest = read_manifest(bundle)
    npu = manifest.npu_artifact
    if npu is not None and npu.needs.runtime == "executorch":
        print(f"its NPU artifact, {npu.file}, was not run: ExecuTorch's Qualcomm backend has no runtime for this machine")
    elif npu is not None:
        prove_on_npu(bundle, checkpoint, None, held_out, threads, audit)


def prove_on_arm(
    bundle: Path, checkpoint: Path, cpu: str | None, windows: int | None, held_out: Path | None, threads: int | None, audit: bool
):
    from firsttoken.arm.cores import DEFAULT_CORE
    from firsttoken.errors import FirstTokenError, GateError
    from firsttoken.prove.on_arm import prove_on_arm as run
    from firsttoken.report.progress_bar import progress_bar
    from firsttoken.report.tables import arm_table, console

    if audit:
        raise FirstTokenError("--audit looks at the file on the host; leave out --on arm to see every layer")
    with progress_bar() as report:
        results = run(bundle, checkpoint, cpu or DEFAULT_CORE, held_out, windows, threads, report)
    out = console()
    for result in results:
        summary = result.summary
        print(
            f"{bundle}: {result.runtime} on emulated {result.core}, {summary.windows} windows of {summary.text} ({summary.arm.tokens} positions)"
        )
        out.print(arm_table(result.core, result.host, result.arm, summary.arm_against_host))
        change = summary.arm.mean_kld - summary.host.mean_kld
        tops = 100 * (summary.arm.same_top - summary.host.same_top)
        print(
            f"  on ARM instead of the host: mean KLD {change:+.2e}, same top {tops:+.2f} points; multiplied with {', '.join(summary.kernels)}"
        )
    failed = [f"{result.runtime} on {result.core}: {'; '.join(result.misses)}" for result in results if result.misses]
    if failed:
        raise GateError(f"{bundle}: the proof on ARM failed: {'; '.join(failed)}")
    runtimes = " and ".join(result.runtime for result in results)
    print(f"proven on emulated {results[0].core} with {runtimes}: every bound of the plan is kept; recorded in the manifest")


def prove_on_npu(bundle: Path, checkpoint: Path, windows: int | None, held_out: Path | None, threads: int | None, audit: bool):
    from firsttoken.errors import GateError
    from firsttoken.prove.gate import NPU_COMPUTED
    from firsttoken.prove.on_hexagon import prove_on_hexagon as run
    from firsttoken.report.progress_bar import progress_bar
    from firsttoken.report.tables import audit_summary, audit_table, console, npu_table

    with progress_bar() as report:
        result = run(bundle, checkpoint, held_out, windows, threads, report, say=lambda line: print(line, flush=True), fully=True)
    out, summary = console(), result.summary
    print(f"{bundle}: {summary.backend}, {summary.windows} windows of {summary.text}, positions up to {summary.last_position}")
    out.print(npu_table(result.cpu, result.npu, summary.npu_against_cpu))
    if audit:
        out.print(audit_table(result.audit, NPU_COMPUTED))
    else:
        print("\n".join(f"  {line}" for line in audit_summary(result.audit)))
    if not summary.passed:
        raise GateError(f"{bundle}: the proof of the NPU artifact failed: {'; '.join(summary.misses)}")
    print("proven on the HTP backend for x86: every bound of the plan is kept, every operator of the model is on the NPU")
