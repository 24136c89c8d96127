"""``firsttoken export``"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from firsttoken.cli import completion
from firsttoken.cli.interrupts import goes_on
from firsttoken.cli.module_options import (
    Labels,
    Lengths,
    Samples,
    Width,
    parse_module_lengths,
    read_labels,
    refuse_of_decoders,
    refuse_of_modules,
)
from firsttoken.cli.options import Adapter, Audit, CheckpointArgument, HeldOut, NoWitness, Verbose
from firsttoken.cli.output import Json, Output


def export(
    context: typer.Context,
    checkpoint: CheckpointArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the bundles go: OUTPUT/<target>/.")] = Path("out"),
    plan: Annotated[
        str,
        typer.Option(
            "--plan",
            "-p",
            metavar="NAME|FILE",
            help="Which layer gets which precision: a name from `firsttoken plans`, or your .toml.",
            autocompletion=completion.plans,
        ),
    ] = "fp16-attention",
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            "-t",
            metavar="NAME|FILE",
            help="Runtime to export for, may be repeated: a name from `firsttoken targets`, or your .toml (default: what firsttoken-demo.apk in OUTPUT carries; tflite-xnnpack where there is none).",
            autocompletion=completion.targets,
        ),
    ] = None,
    for_apk: Annotated[
        Path | None,
        typer.Option(
            "--for-apk", metavar="APK", help="Choose the target by the runtimes that this APK of the app carries.", show_default=False
        ),
    ] = None,
    no_prove: Annotated[bool, typer.Option("--no-prove", help="Do not compare the written file with the checkpoint.")] = False,
    no_witness: NoWitness = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing bundle.")] = False,
    cache_length: Annotated[
        int | None, typer.Option("--cache-length", min=2, help="Tokens of prompt and answer together (default: the target's).")
    ] = None,
    prefill_chunk: Annotated[
        int | None, typer.Option("--prefill-chunk", min=1, help="Most prompt tokens in one call (default: the target's).")
    ] = None,
    end_token: Annotated[
        list[str] | None,
        typer.Option(
            "--end-token",
            metavar="ID|TEXT|none",
            help="Token that ends an answer, may be repeated (default: what the checkpoint says; without any it is not exported). 'none': only a full cache or the app's limit does.",
        ),
    ] = None,
    held_out: HeldOut = None,
    adapter: Adapter = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            metavar="FILE",
            help="Text on which a plan with a method chooses its integers, one with a static precision its ranges, or one with smooth = true what is smoothed (default: one that comes with firsttoken; text of your app's kind is better).",
            show_default=False,
        ),
    ] = None,
    system_prompt: Annotated[
        Path | None,
        typer.Option(
            "--system-prompt",
            metavar="FILE",
            help="A system message whose keys and values are kept in the bundle, so that a first question costs its own tokens alone (.tflite, .litertlm).",
            show_default=False,
        ),
    ] = None,
    prefix_precision: Annotated[
        Literal["fp32", "fp16", "int8"],
        typer.Option(
            "--prefix-precision", help="In what they are kept: fp32 is exact, fp16 and int8 take a half and a quarter of the bytes."
        ),
    ] = "fp32",
    pack_for: Annotated[
        list[str] | None,
        typer.Option(
            "--pack-for",
            metavar="CPU",
            help="Put weights into the bundle as XNNPACK packs them for such CPUs, so that a first start is as quick as a second; may be repeated: dotprod, i8mm, sme or armv8 (ARM, packed by the emulator), host (this machine). tflite-xnnpack alone.",
            show_default=False,
            autocompletion=completion.kinds_of_cpu,
        ),
    ] = None,
    packed_only: Annotated[
        bool,
        typer.Option(
            "--packed-only",
            help="Leave out of the .tflite the weights that the packed files hold: less to store, and it runs on those CPUs and with this version of LiteRT alone.",
        ),
    ] = False,
    draft_tokens: Annotated[
        int | None,
        typer.Option(
            "--draft-tokens",
            min=1,
            max=31,
            help="Let the artifact check so many guessed tokens in one call, for `--draft lookup` of generate, chat and bench; 7 is a good number (.tflite, .pte).",
            show_default=False,
        ),
    ] = None,
    samples: Samples = None,
    lengths: Lengths = None,
    width: Width = None,
    labels: Labels = None,
    audit: Audit = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Export a checkpoint to proven bundles.

    A checkpoint is a Hugging Face folder, a .gguf file, a hub id Owner/Name[@revision], or smollm2, a real model of 135 M weights (93 MB to
    download). docs/checkpoints.md says what each brings and what is refused.

    A classifier, an encoder or a series model goes the same way: a student's folder of `firsttoken distill`, a .pt2 of torch.export.save, or
    my_model.py:build, with --samples, --lengths, --width and --labels. docs/modules.md says how.

    \b
    Examples:
      firsttoken export path/to/checkpoint -o out
      firsttoken export path/to/checkpoint --for-apk firsttoken-demo.apk
      firsttoken export smollm2 -o out/smollm2
      firsttoken export Qwen/Qwen2.5-0.5B-Instruct -o out/qwen
      firsttoken export path/to/base --adapter path/to/lora -o out/lora
      firsttoken export path/to/checkpoint --plan int8 -t tflite-xnnpack -t executorch-xnnpack -o out --force
      firsttoken export smollm2 --plan int4-gptq -o out
      firsttoken export smollm2 -o out --system-prompt assistant.txt --prefix-precision fp16
      firsttoken export smollm2 -o out --pack-for dotprod --pack-for i8mm --packed-only
      firsttoken export path/to/checkpoint --plan int8 -t tflite-xnnpack --draft-tokens 7 -o out/drafts
      firsttoken export path/to/checkpoint -t tflite-hexagon-sm8550 -t tflite-hexagon-sm8750 -o out
      firsttoken export out/digits-cnn --plan module-int8 -t tflite-xnnpack -t executorch-xnnpack -o out/digits
    """
    from firsttoken.modules.recognized import is_module_source

    if is_module_source(checkpoint):
        export_of_module(
            context, checkpoint, output, plan, target or [], not no_prove, force, samples, held_out, lengths, labels, width, audit, as_json
        )
        return
    refuse_of_modules(context, str(checkpoint))
    from firsttoken.backends.registry import find_backend
    from firsttoken.bundle.gpu_facts import GpuProof
    from firsttoken.bundle.manifest import read_manifest
    from firsttoken.bundle.npu_proof import NpuProof
    from firsttoken.device.fitting_target import targets_to_export
    from firsttoken.pipeline import export as run
    from firsttoken.report.progress_bar import progress_bar
    from firsttoken.report.tables import audit_summary, audit_table, figures_table, proof_lines, proof_table
    from firsttoken.units import readable

    out = Output(as_json)
    targets = targets_to_export(checkpoint, output, plan, target or [], for_apk, cache_length, out.say, adapter)
    with goes_on(lambda: kept_of(plan)), progress_bar() as report:
        folders = run(
            checkpoint,
            output,
            plan,
            targets,
            not no_prove,
            force,
            held_out,
            cache_length,
            prefill_chunk,
            report,
            say=out.say,
            end_tokens=end_token or (),
            witness=not no_witness,
            adapter=adapter,
            calibration=calibration,
            system_prompt=None if system_prompt is None else read_system_prompt(system_prompt),
            prefix_precision=prefix_precision,
            pack_for=pack_for or (),
            packed_only=packed_only,
            draft_tokens=draft_tokens,
        )
    manifests = {folder: read_manifest(folder) for folder in folders}
    out.document({"bundles": [{"folder": folder, "manifest": manifest} for folder, manifest in manifests.items()]})
    for folder, manifest in manifests.items():
        cpu, npu, gpu = manifest.cpu, manifest.npu_artifact, manifest.gpu_artifact
        out.show(f"{folder}: {cpu.file}, {readable(manifest.facts(cpu).bytes)}, plan {manifest.plan.name}")
        if npu is not None:
            made_for = f"for {npu.needs.soc} (Hexagon {npu.needs.hexagon})" if npu.needs.soc else "to be compiled by the phone"
            out.show(f"  {npu.file}, {readable(manifest.facts(npu).bytes)}, {made_for}")
        if gpu is not None:
            weights = f", its weights in {gpu.gpu.weights}" if gpu.gpu and gpu.gpu.weights else ""
            out.show(f"  {gpu.file}, {readable(manifest.facts(gpu).bytes)}{weights}, for a GPU")
        if manifest.prefix is not None:
            kept = manifest.prefix
            out.show(
                f"  {kept.file}, {readable(manifest.files[kept.file].bytes)}: a system prompt of {len(kept.tokens)} tokens, kept in {kept.stored}"
            )
        if manifest.packed is not None:
            for packed in manifest.packed.files:
                what = "weights" if manifest.packed.only else "weights, beside the artifact's own,"
                out.show(
                    f"  {packed.file}, {readable(manifest.files[packed.file].bytes)}: {what} packed for {packed.isa} by {packed.package} {packed.version}"
                )
        if cpu.proof is None:
            out.show("  not proven (--no-prove)")
            continue
        out.show(proof_table(manifest.need_proof()), *(f"  {line}" for line in proof_lines(manifest.need_proof())))
        if audit:
            out.show(audit_table(cpu.audit, find_backend(cpu.backend)))
        else:
            out.show(*(f"  {line}" for line in audit_summary(cpu.audit)))
        if npu is not None and isinstance(npu.proof, NpuProof):
            proof = npu.proof
            out.show(
                f"  NPU artifact on {proof.backend}, positions up to {proof.last_position}; and the CPU artifact at the same positions:"
            )
            parts = [("NPU, prefill", proof.prefill), ("NPU, decode", proof.decode), ("NPU, all", proof.all), ("CPU, all", proof.cpu)]
            out.show(figures_table([*parts, ("NPU against CPU", proof.npu_against_cpu)]), *(f"  {line}" for line in proof_lines(proof)))
            out.show(*(f"  {line}" for line in audit_summary(npu.audit)))
        if gpu is not None and isinstance(gpu.proof, GpuProof):
            on_gpu = gpu.proof
            out.show(
                f"  GPU artifact on {on_gpu.device}, positions up to {on_gpu.last_position}; and the CPU artifact at the same positions:"
            )
            figures = [("GPU, prefill", on_gpu.prefill), ("GPU, decode", on_gpu.decode), ("GPU, all", on_gpu.all), ("CPU, all", on_gpu.cpu)]
            lines = (*proof_lines(on_gpu), *audit_summary(gpu.audit))
            out.show(figures_table([*figures, ("GPU against CPU", on_gpu.gpu_against_cpu)]), *(f"  {line}" for line in lines))


def export_of_module(
    context: typer.Context,
    given: Path,
    output: Path,
    plan: str,
    targets: list[str],
    prove: bool,
    force: bool,
    samples: Path | None,
    held_out: Path | None,
    lengths: list[str] | None,
    labels: Path | None,
    width: float | None,
    audit: bool,
    as_json: bool,
) -> None:
    from firsttoken.cli.module_options import given_options
    from firsttoken.cli.module_verbs import export_module_source

    taken = ("output", "plan", "target", "no_prove", "force", "held_out", "audit", "samples", "lengths", "width", "labels")
    refuse_of_decoders(context, taken, str(given))
    chosen = plan if "plan" in given_options(context) else None
    sizes, names = parse_module_lengths(lengths), read_labels(labels)
    export_module_source(given, output, chosen, targets, prove, force, samples, held_out, sizes, names, width, audit, Output(as_json))


def read_system_prompt(path: Path) -> str:
    """Returns the file's text without the newlines at its end. Raises `FirstTokenError`."""
    from firsttoken import plain_file
    from firsttoken.errors import FirstTokenError

    try:
        return plain_file.read_text(path).rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FirstTokenError(f"--system-prompt {path}: cannot be read as UTF-8 text ({plain_file.why(error)})") from None


def kept_of(plan: str) -> str:
    """What an interrupted export of a plan leaves for the next one, in words."""
    from firsttoken.errors import FirstTokenError
    from firsttoken.quant.plan import load_plan

    try:
        chosen = any(rule.method == "gptq" for rule in load_plan(plan).rules)
    except FirstTokenError:  # it was interrupted before the plan was read
        return ""
    return "integers chosen so far are kept" if chosen else ""
