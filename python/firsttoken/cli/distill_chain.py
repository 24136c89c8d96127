"""``firsttoken distill chain RECIPE``"""

from pathlib import Path
from typing import Annotated

import typer

from firsttoken.cli import completion
from firsttoken.cli.machine_options import HoweverLong
from firsttoken.cli.options import RecipeFile, Verbose
from firsttoken.cli.output import Json, Output
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need

OF_CLASSIFIERS = ("output", "plan", "target", "force", "restart", "as_json", "verbose")


def chain(
    context: typer.Context,
    recipe: RecipeFile,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where student, bundles and figures go.")] = Path(
        "out/chain"
    ),
    plan: Annotated[
        str | None,
        typer.Option(
            "--plan",
            "-p",
            metavar="NAME|FILE",
            help="Precision plan (default: the recipe's, else fp16-attention; of a classifier module-int8).",
            autocompletion=completion.plans,
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            "-t",
            metavar="NAME|FILE",
            help="Runtime to export for, may be repeated (default: .tflite and .pte).",
            autocompletion=completion.targets,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace a student of another recipe.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin an interrupted student anew.")] = False,
    cache_length: Annotated[
        int | None, typer.Option("--cache-length", min=2, help="Tokens of prompt and answer (default: the targets').")
    ] = None,
    prompts: Annotated[
        str, typer.Option("--prompts", metavar="N,N,…", help="Prompt lengths in tokens, template included.")
    ] = "32,128",  # -p is the plan
    repeat: Annotated[
        int, typer.Option("--repeat", "-r", min=1, help="Runs of each prompt length in each of five processes of a bundle.")
    ] = 3,
    text_tokens: Annotated[int, typer.Option("--text-tokens", min=16, help="Held-out tokens that every step is scored on.")] = 2048,
    however_long: HoweverLong = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """From teacher to first token: student, plan, bundles, proof, the loss of every step, and TTFT on this machine.

    What an earlier call finished is not done again. Every bundle's manifest names recipe, teachers and data. A classifier's recipe ends in a table of
    accuracies, from the teacher to the bundles, and in milliseconds per input.

    \b
    Examples:
      firsttoken distill chain demo-cut -o out/chain
      firsttoken distill chain digits-cnn -o out/digits
    """
    need("distill", "distillation")
    from firsttoken.distill.recipe import is_classifier

    if is_classifier(recipe):
        chain_of_classifier(context, recipe, output, plan, tuple(target or ()), force, restart, Output(as_json))
        return
    from firsttoken.cli.options import parse_lengths
    from firsttoken.distill.chain import MEASUREMENT, TARGETS
    from firsttoken.distill.chain import chain as work
    from firsttoken.measure.bench import BenchSettings
    from firsttoken.report.bench_table import notes, terminal_table
    from firsttoken.report.evaluation_table import terminal_table as scores_table
    from firsttoken.report.progress_bar import progress_bar

    out = Output(as_json)
    settings = BenchSettings(prompts=tuple(parse_lengths(prompts)), repeat=repeat)
    made = work(
        recipe,
        output,
        plan,
        tuple(target or TARGETS),
        force,
        restart,
        cache_length,
        text_tokens,
        settings,
        progress_bar,
        out.say,
        however_long,
    )
    out.show(
        f"\nThe same held-out text through every step (about {text_tokens:,} tokens of it; --text-tokens takes more):",
        scores_table(made.scores),
        "\nTime to first token on this machine:",
        terminal_table(made.measurement),
        *notes(made.measurement),
        f"\nStudent: {made.student}; bundles: {', '.join(map(str, made.bundles))}; every run: {output / MEASUREMENT}",
    )
    out.document({**vars(made), "measurement": made.measurement.model_dump(mode="json", exclude_none=True)})


def chain_of_classifier(
    context: typer.Context,
    recipe: str | Path,
    output: Path,
    plan: str | None,
    targets: tuple[str, ...],
    force: bool,
    restart: bool,
    out: Output,
) -> None:
    """The same of a classifier's recipe."""
    from firsttoken.cli.module_options import given_options
    from firsttoken.cli.module_verbs import bench_table, times_said
    from firsttoken.distill.classifiers.chain import TARGETS, chain_classifier
    from firsttoken.module_bundles.export import DEFAULT_PLAN
    from firsttoken.report.progress_bar import progress_bar
    from firsttoken.report.tables import table

    for name, written in given_options(context).items():
        if name not in OF_CLASSIFIERS:
            raise FirstTokenError(f"{written} is for decoders, and {str(recipe)!r} is a classifier's recipe; leave it out")
    made = chain_classifier(recipe, output, plan or DEFAULT_PLAN, targets or TARGETS, force, restart, progress_bar, out.say)
    cells = [
        (step.name, "" if step.bytes is None else readable_size(step.bytes), f"{step.accuracy:.2%}", f"{step.of:,}") for step in made.steps
    ]
    out.show(
        "\nAccuracy, step by step:",
        table(None, ("step", "file", "right", "of"), cells),
        "\nMilliseconds per input on this machine:",
        bench_table(made.times),
        times_said(made.times),
        f"\nStudent: {made.student}; bundles: {', '.join(map(str, made.bundles))}",
    )
    out.document(
        {
            "student": made.student,
            "bundles": made.bundles,
            "steps": [vars(step) for step in made.steps],
            "modules": [row.document for row in made.times],
        }
    )


def readable_size(count: int) -> str:
    from firsttoken.units import readable

    return readable(count)
