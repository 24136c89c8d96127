"""``firsttoken prove``"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firsttoken.cli import completion
from firsttoken.cli.module_options import Width, refuse_of_decoders, refuse_of_modules
from firsttoken.cli.options import Adapter, Audit, BundleOrFile, CacheLength, Checkpoint, HeldOut, NoWitness, Threads, Verbose
from firsttoken.cli.output import Json, Output

if TYPE_CHECKING:
    from firsttoken.backends.interface import Backend
    from firsttoken.bundle.manifest import AuditRow, Proof
    from firsttoken.prove.on_arm import ArmResult
    from firsttoken.prove.on_file import FileProof
    from firsttoken.prove.on_gpu import GpuResult
    from firsttoken.prove.on_npu import NpuResult
    from firsttoken.prove.places import Proven


class Place(StrEnum):
    host = "host"
    arm = "arm"
    gpu = "gpu"
    npu = "npu"


def prove(
    context: typer.Context,
    bundle: BundleOrFile,
    checkpoint: Checkpoint,
    on: Annotated[
        Place,
        typer.Option(
            "--on",
            help="Where to run it: here (with the NPU artifact, if any), also on an emulated ARM core (scripts/setup_arm) or a software GPU (scripts/setup_gpu), or the NPU artifact alone.",
        ),
    ] = Place.host,
    cpu: Annotated[
        str | None,
        typer.Option("--cpu", metavar="CORE", help="With --on arm: cortex-a76 (the default), neoverse-v1 or cortex-a53."),
    ] = None,
    windows: Annotated[
        int | None,
        typer.Option(
            "--windows",
            min=1,
            help="With --on arm, gpu or npu: how many stretches of the text to run (default: one or two minutes' worth).",
        ),
    ] = None,
    held_out: HeldOut = None,
    adapter: Adapter = None,
    threads: Threads = None,
    plan: Annotated[
        str | None,
        typer.Option(
            "--plan",
            "-p",
            metavar="NAME|FILE",
            help="With a file: the plan it should keep to; its bounds count, and where it stores what the plan asks it has to be the plan as computed on the host (default: the nearest to what is stored, and there only a warning).",
            autocompletion=completion.plans,
        ),
    ] = None,
    cache_length: CacheLength = None,
    begin_token: Annotated[
        int | None,
        typer.Option(
            "--begin-token",
            min=0,
            metavar="TOKEN",
            help="With a file: the token that texts begin with (default: what it says, else the checkpoint's).",
        ),
    ] = None,
    no_witness: NoWitness = False,
    width: Width = None,
    audit: Audit = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Compare a bundle, or anyone's file, with its checkpoint.

    Runs the written file in its own runtime, prefill and decode, on held-out text, and looks at every layer.

    Of a file that another exporter wrote (litert-torch's export_hf, ExecuTorch's export_llm) the signatures, the cache's length and the
    vocabulary are read from the file itself. It gets the same figures, and instead of the layers' table what is stored in which type and what
    the delegate took. What was compared, and what was not, is printed below them; docs/anyones-file.md explains it.

    With --on arm it also runs it on an emulated ARM core, whose kernels are a phone's and not this machine's. A core
    that it passes on is recorded in the bundle's manifest. What is printed there is about numbers, never about time.

    With --on gpu a bundle's artifact for a GPU (-t tflite-gpu, litertlm-gpu) runs through LiteRT's GPU accelerator, on a software device, beside the
    CPU's: every operator has to be on the GPU, and the figures are as everywhere. What it will take is said first. What a phone's GPU rounds and how
    fast it is cannot be seen there.

    A bundle for a Hexagon NPU has its compiled graphs run on Qualcomm's HTP backend for x86, beside its CPU artifact: of a
    model up to 10 M weights every position that the CPU's proof runs, which takes minutes and is said first; export runs
    two minutes' worth. --windows asks for less, or for more of a larger model.

    A module's bundle is proven against the student's folder, .pt2 or my_model.py:build that it was made from, on --held-out FILE.npz or the student's own.

    \b
    Examples:
      firsttoken prove out/tflite-xnnpack --checkpoint path/to/checkpoint --audit
      firsttoken prove out/tflite-xnnpack --checkpoint path/to/checkpoint --on arm --cpu cortex-a53
      firsttoken prove out/tflite-gpu --checkpoint path/to/checkpoint --on gpu
      firsttoken prove out/tflite-hexagon-sm8550 --checkpoint path/to/checkpoint --on npu --windows 3
      firsttoken prove their/model.litertlm --checkpoint path/to/checkpoint --plan int8
    """
    from firsttoken.bundle.module_manifest import is_module_bundle
    from firsttoken.errors import FirstTokenError, GateError

    if is_module_bundle(bundle):
        from firsttoken.cli.module_verbs import prove_module_bundle

        refuse_of_decoders(context, ("checkpoint", "held_out", "width", "threads", "audit"), f"bundle {bundle}")
        prove_module_bundle(bundle, checkpoint, held_out, width, threads, audit, Output(as_json))
        return
    refuse_of_modules(context, f"bundle {bundle}")
    from firsttoken.prove.places import prove_places
    from firsttoken.report.progress_bar import progress_bar

    if audit and on is Place.arm:
        raise FirstTokenError(f"--audit looks at the file on the host; leave out --on {on.value} to see every layer")
    out = Output(as_json)
    for proven in prove_places(
        bundle,
        checkpoint,
        on.value,
        cpu,
        windows,
        held_out,
        threads,
        plan,
        cache_length,
        begin_token,
        not no_witness,
        progress_bar,
        out.say,
        adapter,
    ):
        if proven.file:
            show_file(proven.file, out, audit)
        elif proven.gpu:
            show_gpu(bundle, proven.gpu, out, audit)
        elif proven.npu:
            show_npu(bundle, proven.npu, out, audit)
        elif proven.proof:
            show_host(bundle, proven.proof, proven.audit, proven.backend, out, audit)
        else:
            show_arm(bundle, proven.arm, out)
    out.document(document(proven))
    if proven.misses:
        parts = ((proven.npu, "of the NPU artifact"), (proven.arm, "on ARM"), (proven.gpu, "on the software GPU"))
        what = next((f" {words}" for found, words in parts if found), "")
        raise GateError(f"{bundle}: the proof{what} failed: {'; '.join(proven.misses)}")


def document(proven: "Proven") -> dict:
    """What was proven, with the names of the manifest; only what was run."""
    found = {"bundle": proven.bundle, "passed": proven.passed, "misses": proven.misses}
    if proven.file:
        file = proven.file
        found |= {"proof": file.proof, "structure": file.structure, "bounds": file.bounds, "read": file.read, "compared": file.compared}
    elif proven.proof:
        found |= {"proof": proven.proof, "audit": proven.audit}
    if proven.arm:
        found["proven_on"] = [
            {**result.summary.model_dump(), "proof": result.arm, "host_proof": result.host, "misses": result.misses}
            for result in proven.arm
        ]
    if proven.gpu:
        found["proven_on_gpu"] = {
            **proven.gpu.summary.model_dump(),
            "proof": proven.gpu.gpu,
            "cpu_proof": proven.gpu.cpu,
            "misses": proven.gpu.misses,
            "audit": proven.gpu.audit,
        }
    if proven.npu:
        found["npu"] = {"proof": proven.npu.summary, "audit": proven.npu.audit}
    return found


def show_host(bundle: Path, proof: "Proof", rows: "list[AuditRow]", backend: "Backend", out: Output, audit: bool) -> None:
    from firsttoken.report.tables import audit_summary, audit_table, proof_lines, proof_table

    out.show(f"{bundle}: against the checkpoint in FP32, on {proof.text}", proof_table(proof))
    out.show(*(f"  {line}" for line in proof_lines(proof)))
    out.show(*([audit_table(rows, backend)] if audit else (f"  {line}" for line in audit_summary(rows))))
    if proof.passed:
        out.show("proven: every bound of the plan is kept and every layer is as asked")


def show_file(file: "FileProof", out: Output, audit: bool) -> None:
    from firsttoken.report.file_table import delegation_lines, matrix_table, storage_lines
    from firsttoken.report.tables import proof_lines, proof_table

    proof = file.proof
    out.show(f"{file.path}: against the checkpoint in FP32, on {proof.text}", proof_table(proof))
    for line in (*file.read, *proof_lines(proof), *storage_lines(file.structure), *delegation_lines(file.structure), *file.compared):
        out.show(f"  {line}")
    if audit:
        out.show(matrix_table(file.structure))
    if proof.passed:
        out.show(f"passed: every bound of the plan {file.bounds} is kept")


def show_arm(bundle: Path, results: "list[ArmResult]", out: Output) -> None:
    from firsttoken.report.tables import arm_table, proof_lines

    for result in results:
        summary = result.summary
        change = summary.arm.mean_kld - summary.host.mean_kld
        tops = 100 * (summary.arm.same_top - summary.host.same_top)
        out.show(
            f"{bundle}: {result.runtime} on emulated {result.core}, {summary.windows} windows of {summary.text} ({summary.arm.tokens} positions)",
            arm_table(result.core, result.host, result.arm, summary.arm_against_host),
            *(f"  {line}" for line in proof_lines(result.arm)),
            f"  on ARM instead of the host: mean KLD {change:+.2e}, same top {tops:+.2f} points; multiplied with {', '.join(summary.kernels)}",
        )
    if not any(result.misses for result in results):
        runtimes = " and ".join(result.runtime for result in results)
        out.show(f"proven on emulated {results[0].core} with {runtimes}: every bound of the plan is kept; recorded in the manifest")


def show_gpu(bundle: Path, result: "GpuResult", out: Output, audit: bool) -> None:
    from firsttoken.report.tables import audit_summary, audit_table, beside_table, proof_lines

    summary = result.summary
    out.show(
        f"{bundle}: {summary.device} ({summary.driver}), {summary.windows} windows of {summary.text}, positions up to {summary.last_position}",
        beside_table("CPU", result.cpu, "GPU", result.gpu, summary.gpu_against_cpu),
        *(f"  {line}" for line in proof_lines(result.gpu)),
        f"  loaded ({', '.join(summary.methods)}), with its kernels compiled, in {summary.compile_seconds:.1f} s on this machine",
    )
    out.show(*([audit_table(result.audit, result.backend)] if audit else (f"  {line}" for line in audit_summary(result.audit))))
    if not result.misses:
        out.show(f"proven on {summary.device}: every bound of the plan is kept, every operator is on the GPU; recorded in the manifest")


def show_npu(bundle: Path, result: "NpuResult", out: Output, audit: bool) -> None:
    from firsttoken.report.tables import audit_summary, audit_table, npu_table, proof_lines

    summary = result.summary
    out.show(
        f"{bundle}: {summary.backend}, {summary.windows} windows of {summary.text}, positions up to {summary.last_position}",
        npu_table(result.cpu, result.npu, summary.npu_against_cpu),
        *(f"  {line}" for line in proof_lines(summary)),
    )
    out.show(*([audit_table(result.audit, result.backend)] if audit else (f"  {line}" for line in audit_summary(result.audit))))
    if summary.passed:
        out.show("proven on the HTP backend for x86: every bound of the plan is kept, every operator of the model is on the NPU")
