"""``firsttoken plan sensitivity``, ``firsttoken plan ranges`` and ``firsttoken plan search``"""

import re
from pathlib import Path
from typing import Annotated

import typer

from firsttoken.cli import completion
from firsttoken.cli.interrupts import goes_on
from firsttoken.cli.options import Adapter, CheckpointArgument, HeldOut, Verbose
from firsttoken.cli.output import Json, Output

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure what every layer's precision costs, and find the plan for a budget.\n\n"
    "`firsttoken plans` lists the built-in plans; docs/plans.md says what a rule can ask, docs/plan-search.md how a plan is found.\n\n"
    "\b\nsensitivity  what each layer loses in each precision, by itself\nsearch       the plan that loses least within a size, a time or a loss\n"
    "ranges       what layers' inputs and products are on a text, for plans with static precisions\n\n"
    "\b\nExamples:\n  firsttoken plan sensitivity path/to/checkpoint\n  firsttoken plan search path/to/checkpoint --max-size 120MiB -o plan.toml\n"
    "  firsttoken export path/to/checkpoint --plan plan.toml -o out",
)
TargetName = Annotated[
    str,
    typer.Option(
        "--target",
        "-t",
        metavar="NAME|FILE",
        help="Runtime to measure for: a name from `firsttoken targets`, or your .toml.",
        autocompletion=completion.targets,
    ),
]
Calibration = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="FILE",
        help="Text that damages are measured and integers chosen on (default: one that comes with firsttoken; text of your app's kind is better).",
        show_default=False,
    ),
]
Tokens = Annotated[
    int, typer.Option("--tokens", min=128, max=8192, help="Tokens of the text that damages are measured on; more take longer.")
]
Precisions = Annotated[
    list[str] | None,
    typer.Option(
        "--precision",
        metavar="LABEL",
        help="Choose linear layers among these alone, may be repeated: fp16, int8, int8 apart, int8 gptq, int4/32 gptq, int4/128 gptq, int4/row gptq; int4/32 where GPTQ cannot choose: a head that is the embedding's table, some families (default: all that the target has).",
        show_default=False,
    ),
]
MEASURED = "damages measured so far are kept"
SMOOTHED = "Measure with outliers of activations moved into weights where that helps (`smooth = true` in a plan)."
SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>B|KiB|MiB|GiB|kB|MB|GB)", re.ASCII)
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 10**3, "MB": 10**6, "GB": 10**9}


def parse_size(text: str | None) -> int | None:
    """Bytes of "120MiB". Raises a usage error for anything else."""
    if text is None:
        return None
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is no size; expected a number with a unit ({', '.join(UNITS)}), as 120MiB or 0.5GB", param_hint="--max-size"
        )
    return int(float(found["number"]) * UNITS[found["unit"]])


def check_page(output: Path) -> None:
    """Raises `FirstTokenError` where no page with pictures can be written to ``output``."""
    from firsttoken.atomic_file import check_file_destination
    from firsttoken.errors import FirstTokenError
    from firsttoken.extras import need

    if output.suffix not in (".html", ".htm"):
        raise FirstTokenError(f"output {output}: a page's file ends in .html; --json prints the figures")
    need("search", "a page with pictures")
    check_file_destination(output, "--output")


@app.command()
def sensitivity(
    checkpoint: CheckpointArgument,
    target: TargetName = "tflite-xnnpack",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the page, with pictures, to this .html.", show_default=False),
    ] = None,
    tokens: Tokens = 512,
    precision: Precisions = None,
    smooth: Annotated[bool, typer.Option("--smooth", help=SMOOTHED)] = False,
    calibration: Calibration = None,
    held_out: HeldOut = None,
    adapter: Adapter = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measure the damage of each layer in each precision, by itself.

    A damage is the mean KL divergence from the checkpoint in FP32, in nats a token, with one layer as the target computes it and all others in
    FP32. What was measured is kept in the cache folder: an interrupted run goes on where it stopped, and `plan search` uses the same figures.

    \b
    Examples:
      firsttoken plan sensitivity path/to/checkpoint
      firsttoken plan sensitivity smollm2 -t executorch-xnnpack --precision int8 --precision fp16 -o sensitivity.html
    """
    from firsttoken.atomic_file import write_text
    from firsttoken.report.progress_bar import progress_bar
    from firsttoken.report.tables import table
    from firsttoken.search.page import by_label, labels_of, sensitivity_page
    from firsttoken.search.search import opened
    from firsttoken.search.sensitivity import measured_damages
    from firsttoken.search.smooth import smoothed

    out = Output(as_json)
    if output is not None:
        check_page(output)
    with (
        goes_on(lambda: MEASURED),
        progress_bar() as report,
        opened(checkpoint, target, calibration, held_out, adapter, tokens, report) as subject,
    ):
        measured = smoothed(subject, tuple(precision or ()), report, out.say) if smooth else subject
        damages = measured_damages(measured, tuple(precision or ()), report)
        name, text = f"{subject.source.name} on {subject.target.name}", subject.text.name
    labels = labels_of(damages)
    out.document(
        {
            "checkpoint": name,
            "text": text,
            "tokens": tokens,
            "layers": {layer: {one.label: damage for one, damage in own.items()} for layer, own in damages.items()},
        }
    )
    rows = [(layer, *("" if one is None else f"{own[one]:.2e}" for one in by_label(own, labels))) for layer, own in damages.items()]
    out.show(table(f"{name}: mean KL divergence, nats a token, of one layer alone", ("layer", *labels), rows))
    if output is not None:
        write_text(
            output, sensitivity_page(f"{name}: what each layer's precision costs", damages, [("text", text), ("tokens", str(tokens))])
        )
        out.show(f"{output}: the same with pictures")


@app.command()
def ranges(
    checkpoint: CheckpointArgument,
    plan: Annotated[
        str | None,
        typer.Option(
            "--plan",
            "-p",
            metavar="NAME|FILE",
            help="Look at the layers that this plan gives a static precision (default: at all linear layers).",
            autocompletion=completion.plans,
            show_default=False,
        ),
    ] = None,
    target: TargetName = "tflite-xnnpack",
    precision: Annotated[
        str,
        typer.Option("--precision", metavar="NAME", help="Without --plan: what all linear layers are rounded to, int8-static or int16x8."),
    ] = "int8-static",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the page, with pictures, to this .html.", show_default=False),
    ] = None,
    calibration: Calibration = None,
    adapter: Adapter = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show the ranges of layers' inputs and products on a text, and what rounding to them costs.

    For static precisions: low and high as they occurred, and for each way of choosing a range (a rule's `range`) the share of values beyond it and the
    rounding error, as a part of the values' own size. Outlier channels are inputs whose largest magnitude is more than 6 times the median channel's.
    What was counted is kept in the cache folder, and exports use it.

    \b
    Examples:
      firsttoken plan ranges path/to/checkpoint -o ranges.html
      firsttoken plan ranges smollm2 --plan static.toml -t tflite-hexagon-sm8550 --json
    """
    from firsttoken.atomic_file import write_text
    from firsttoken.calibration.text import read_text
    from firsttoken.checkpoint_sources.open import open_checkpoint
    from firsttoken.decoder.walk import open_decoder
    from firsttoken.errors import FirstTokenError, nearest
    from firsttoken.precisions import STATIC
    from firsttoken.report.progress_bar import progress_bar
    from firsttoken.report.tables import table
    from firsttoken.search import ranges as looked

    if precision not in STATIC:
        raise FirstTokenError(f"--precision {precision!r} has no ranges{nearest(precision, STATIC)}; expected one of {', '.join(STATIC)}")
    out = Output(as_json)
    if output is not None:
        check_page(output)
    text = read_text(calibration)
    with progress_bar() as report, open_checkpoint(checkpoint, adapter, report) as source:
        decoder = open_decoder(source)
        found = looked.measured(source, decoder, looked.asked_layers(decoder, plan, target, precision), text, report)
        name = source.name
    out.document({"checkpoint": name, "text": text.name, "layers": looked.document(found)})
    out.show(table(f"{name}: ranges on {text.name}", looked.COLUMNS, list(looked.lines(found))))
    if output is not None:
        write_text(output, looked.ranges_page(f"{name}: ranges of activations", found, text.name))
        out.show(f"{output}: the same with pictures")


@app.command()
def search(
    checkpoint: CheckpointArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the plan goes; the page goes beside it, as .html.")
    ] = Path("plan.toml"),
    target: TargetName = "tflite-xnnpack",
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="SIZE", help="Most of the artifact's size, as 120MiB.", show_default=False)
    ] = None,
    max_kld: Annotated[
        float | None,
        typer.Option(
            "--max-kld",
            min=1e-9,
            metavar="NATS",
            help="Most of the proof's mean KL divergence. Without --max-size the smallest plan within it is found.",
            show_default=False,
        ),
    ] = None,
    max_first_token: Annotated[
        float | None,
        typer.Option(
            "--max-first-token",
            min=0.01,
            metavar="RATIO",
            help="Most of the time to the first token, times the int8 plan's.",
            show_default=False,
        ),
    ] = None,
    max_decode: Annotated[
        float | None,
        typer.Option(
            "--max-decode",
            min=0.01,
            metavar="RATIO",
            help="Most of the time of a decoded token, times the int8 plan's.",
            show_default=False,
        ),
    ] = None,
    prompt: Annotated[int, typer.Option("--prompt", min=1, metavar="TOKENS", help="Prompt that the first token's time is of.")] = 128,
    times: Annotated[
        list[str] | None,
        typer.Option(
            "--times",
            metavar="FILE|arm",
            help="Times of bundles of this checkpoint in different built-in plans, as `firsttoken device profile` or `bench -o` wrote them, may be repeated; or arm: instructions counted on an emulated core (default: every layer is timed on this machine).",
            show_default=False,
        ),
    ] = None,
    tokens: Tokens = 512,
    precision: Precisions = None,
    no_smooth: Annotated[bool, typer.Option("--no-smooth", help="Do not try to move outliers of activations into weights first.")] = False,
    calibration: Calibration = None,
    held_out: HeldOut = None,
    adapter: Adapter = None,
    no_prove: Annotated[bool, typer.Option("--no-prove", help="Write the plan as predicted, without exporting and proving it.")] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing plan.")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Find the plan with the least damage within a budget.

    Damages are measured layer by layer (`plan sensitivity`), bytes follow from the format, times are measured on this machine for every
    shape and precision. The best choice is exported and proven; where the whole is not what the layers' sum said, another choice is made. What comes
    out is an ordinary plan with the reason for each rule, and a page with the plans of least damage at every size.

    \b
    Examples:
      firsttoken plan search path/to/checkpoint --max-size 120MiB -o plan.toml
      firsttoken plan search path/to/checkpoint --max-kld 0.01 -o small.toml
      firsttoken plan search smollm2 --max-size 140MiB --max-first-token 1.1 -o plan.toml
      firsttoken export path/to/checkpoint --plan plan.toml -o out
    """
    from firsttoken.atomic_file import check_file_destination, write_text
    from firsttoken.errors import FirstTokenError
    from firsttoken.extras import need
    from firsttoken.report.progress_bar import progress_bar
    from firsttoken.search.budget import Budget
    from firsttoken.search.clock import check_times
    from firsttoken.search.page import search_page
    from firsttoken.search.search import opened, stored_note
    from firsttoken.search.search import search as run
    from firsttoken.search.sensitivity import measured_damages
    from firsttoken.search.smooth import smoothed
    from firsttoken.units import readable

    budget = Budget(parse_size(max_size), max_kld, max_first_token, max_decode)
    if budget == Budget():
        raise FirstTokenError("no budget given; give --max-size, --max-kld, --max-first-token or --max-decode")
    if output.suffix != ".toml":
        raise FirstTokenError(f"output {output}: a plan's file ends in .toml")
    need("search", "searching a plan")
    page_file = output.with_suffix(".html")
    for file in (output, page_file):
        check_file_destination(file, "--output")
        if file.exists() and not force:
            raise FirstTokenError(f"output {file}: exists; give another name, or --force to replace it")
    out, asked = Output(as_json), tuple(precision or ())
    with (
        goes_on(lambda: MEASURED),
        progress_bar() as report,
        opened(checkpoint, target, calibration, held_out, adapter, tokens, report) as subject,
    ):
        check_times(subject, budget, prompt, times or ())
        if (note := stored_note(subject)) is not None:
            out.say(note)
        subject = subject if no_smooth else smoothed(subject, asked, report, out.say)
        found = run(subject, budget, asked, prompt, times or (), not no_prove, report, out.say)
        damages, name = measured_damages(subject, asked), f"{subject.source.name} on {subject.target.name}"
    facts = [("INT8 plan", f"{readable(found.base.bytes)}, {found.base_predicted.damage:.2e} nats predicted")]
    if found.real is not None and found.figures is not None:
        facts.append(
            (
                "found plan",
                f"{readable(found.real.bytes)}, mean KL divergence {found.figures.mean_kld:.2e} nats, same top {found.figures.same_top:.1%}",
            )
        )
        if found.ratios[0]:
            facts.append(("its times", f"first token of {prompt} tokens {found.ratios[0]:.2f}, decode {found.ratios[1]:.2f} times INT8's"))
    else:
        facts.append(("found plan", f"{readable(int(found.predicted.bytes))}, {found.predicted.damage:.2e} nats predicted"))
    write_text(page_file, search_page(f"{name}: a plan for a budget", found, damages, facts))
    write_text(output, found.text)
    out.document(
        {
            "plan": output,
            "page": page_file,
            "predicted": found.predicted,
            "int8": found.base,
            "exported": found.real,
            "figures": found.figures,
            "exports": found.tries,
        }
    )
    out.show(
        *(f"{what}: {value}" for what, value in facts),
        f"{output}: the plan; use it with --plan {output}",
        f"{page_file}: the plans of least damage at every size",
    )
