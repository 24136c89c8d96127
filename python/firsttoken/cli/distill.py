"""``firsttoken distill RECIPE`` and the verbs beside it"""

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from firsttoken.cli import teacher_options
from firsttoken.cli.distill_chain import chain
from firsttoken.cli.distill_estimate import estimate
from firsttoken.cli.distill_search import search
from firsttoken.cli.distill_width import width
from firsttoken.cli.machine_options import Device, Dtype, HoweverLong, checked_dtype
from firsttoken.cli.options import RecipeFile, Verbose
from firsttoken.cli.output import Json, Output
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need


class DefaultsToRun(typer.core.TyperGroup):
    """A group whose first argument may be a recipe: ``distill RECIPE.toml`` is ``distill run RECIPE.toml``."""

    def parse_args(self, context: Any, arguments: list[str]) -> list[str]:  # newer releases of typer have a Context of their own
        if arguments and arguments[0] not in self.commands and arguments[0] not in context.help_option_names:
            arguments = ["run", *arguments]
        return super().parse_args(context, arguments)


app = typer.Typer(
    cls=DefaultsToRun,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Distil a smaller checkpoint from a teacher.\n\n"
    "The recipe says which teacher, student, data and losses; `firsttoken distill recipes` lists the built-in ones. The student is a checkpoint for `firsttoken export`.\n\n"
    "\b\nExamples:\n  firsttoken distill recipes\n  firsttoken distill demo-cut -o out/student\n  firsttoken distill my-recipe.toml -o out/student\n"
    "  firsttoken distill chain demo-cut -o out/chain\n  firsttoken distill search demo-hidden -o out/search --steps 60\n  firsttoken distill estimate my-recipe.toml --gpus 8 --gpu-memory 80\n  firsttoken distill cache my-recipe.toml -o out/teacher-answers --top 64\n  firsttoken distill generate path/to/teacher prompts.jsonl -o answers.jsonl\n"
    "  torchrun --nproc-per-node 2 $(which firsttoken) distill my-recipe.toml -o out/student",
)
app.command()(search)
app.command()(width)
app.command()(estimate)
app.command()(chain)


@app.command()
def run(
    recipe: RecipeFile,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where the student goes (default: out/<recipe>).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing student.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Start over instead of going on with an interrupted run.")] = False,
    keep_work: Annotated[bool, typer.Option("--keep-work", help="Keep FOLDER.work, with the last training states.")] = False,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", metavar="FOLDER", help="Write the curves for TensorBoard too, while it trains.")
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, max=10, help="For a classifier's recipe: so many seeds, and a table with intervals.")
    ] = 1,
    however_long: HoweverLong = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train a student as a recipe says (the word run may be left out).

    A run that was interrupted goes on when the same command is given again. FOLDER appears complete or not at all; it
    holds the checkpoint, training.html with the curves, and distillation.json with what it was made from.

    \b
    Examples:
      firsttoken distill demo-cut -o out/student
      firsttoken distill my-recipe.toml -o out/student --force
      firsttoken distill digits-cnn -o out/digits --seeds 5
    """
    import os

    from firsttoken.bundle.lineage import RECORD
    from firsttoken.checkpoint import read_json
    from firsttoken.distill.recipe import is_classifier
    from firsttoken.report.progress_bar import progress_bar

    need("distill", "distillation")
    out = Output(as_json)
    if is_classifier(recipe):
        from firsttoken.distill.classifiers.run import distill_classifier

        if however_long:
            raise FirstTokenError("--however-long is for a decoder's recipe; a classifier's training is never refused for its time")
        if tensorboard is not None:
            raise FirstTokenError("--tensorboard is for a decoder's recipe; a classifier's curves are in its training.html")
        student = distill_classifier(recipe, output, seeds, force, restart, keep_work, out.say)
    elif seeds != 1:
        raise FirstTokenError("--seeds is for a classifier's recipe; a decoder's has its seed in the file")
    else:
        from firsttoken.distill.distill import distill as work

        student = work(
            recipe, output, force, restart, keep_work, progress_bar, say=out.say, tensorboard=tensorboard, however_long=however_long
        )
    if int(os.environ.get("RANK", "0")) == 0:  # of several processes one speaks
        out.document({"student": student, "distillation": read_json(student / RECORD, "the run has just written it") if as_json else None})


@app.command()
def cache(
    recipe: RecipeFile,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the answers go.", show_default=False)],
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="How many of the most likely tokens to keep at every position.")] = 64,
    teacher: Annotated[int, typer.Option("--teacher", min=0, help="Which [[teacher]] of the recipe, from 0.")] = 0,
    server: teacher_options.ServerOption = None,
    model: teacher_options.Model = None,
    key_variable: teacher_options.KeyVariable = None,
    concurrency: teacher_options.Concurrency = None,
    timeout: teacher_options.Timeout = None,
    retries: teacher_options.Retries = 6,
    however_long: HoweverLong = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Keep a teacher's answers to the recipe's training data on disk.

    Then put cache = "FOLDER" in place of the teacher's checkpoint: training no longer needs it. An interrupted run goes on. With --server the teacher is vLLM's or llama.cpp's server, and the recipe needs no checkpoint of it.

    \b
    Example:
      firsttoken distill cache my-recipe.toml -o out/teacher-answers --top 64
      firsttoken distill cache my-recipe.toml -o out/teacher-answers --top 20 --server http://localhost:8000/v1
    """
    from firsttoken.report.progress_bar import progress_bar

    need("distill", "asking a teacher")
    from firsttoken.distill.ask_teacher import cache as work

    out = Output(as_json)
    given = {name: value for name, value in locals().items() if name in teacher_options.OF_SERVERS}
    with progress_bar() as report:
        if server is None:
            teacher_options.refuse_without_server(given, "the teacher is the recipe's; name a server with --server")
            facts = work(recipe, output, top, teacher, report, however_long)
        elif teacher or however_long:
            raise FirstTokenError("--teacher and --however-long are for a checkpoint of the recipe; with --server leave them out")
        else:
            facts = teacher_options.cache_of_servers(recipe, output, server, given, top, report, out)
    positions = facts["windows"] * facts["length"]
    out.show(
        f"{output}: {positions:,} positions, {facts['k']} tokens each, {facts['bytes_per_position']} bytes a position, {positions * facts['bytes_per_position'] / 1e6:,.1f} MB"
    )
    out.document({"cache": output, **facts})


@app.command()
def generate(
    teacher: Annotated[
        str,
        typer.Argument(
            metavar="TEACHER",
            help="The teacher: a checkpoint folder, a hub id, or smollm2; or the address of an OpenAI-compatible server, or a .toml file of several.",
            show_default=False,
        ),
    ],
    prompts: Annotated[Path, typer.Argument(metavar="PROMPTS", help='JSONL file with a "prompt" in every line.', show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="JSONL file for the answers.", show_default=False)],
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", min=1, help="Most tokens of an answer, thinking included.")] = 512,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, help="0 takes the most likely token; above, tokens are drawn.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Start of the random numbers for a temperature above 0.")] = 0,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the prompts as they are, without the chat template.")] = False,
    thinking_end: Annotated[
        str | None, typer.Option("--thinking-end", metavar="TOKEN", help="The token that ends thinking, such as </think>.")
    ] = None,
    max_thinking: Annotated[
        int | None, typer.Option("--max-thinking", min=0, help="Thinking tokens after which thinking is ended.")
    ] = None,
    min_thinking: Annotated[int, typer.Option("--min-thinking", min=0, help="Thinking tokens before which it may not end.")] = 0,
    ignore_end: Annotated[int, typer.Option("--ignore-end", min=0, help="How often the end of thinking is replaced by --wait.")] = 0,
    wait: Annotated[str, typer.Option("--wait", help="What goes in the place of an ignored end of thinking.")] = "Wait",
    model: teacher_options.Model = None,
    key_variable: teacher_options.KeyVariable = None,
    samples: teacher_options.Samples = 1,
    top_p: teacher_options.TopP = None,
    system: teacher_options.System = None,
    check: teacher_options.Check = None,
    least_tokens: teacher_options.LeastTokens = 0,
    concurrency: teacher_options.Concurrency = None,
    requests_per_minute: teacher_options.RequestsPerMinute = None,
    tokens_per_minute: teacher_options.TokensPerMinute = None,
    timeout: teacher_options.Timeout = None,
    retries: teacher_options.Retries = 6,
    max_cost: teacher_options.MaxCost = None,
    price_in: teacher_options.PriceIn = None,
    price_out: teacher_options.PriceOut = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Prompts answered at once.")] = 1,
    dtype: Dtype = "float32",
    device: Device = "auto",
    however_long: HoweverLong = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Let a teacher write answers to train on.

    An interrupted run goes on when the same command is given again. The answers are training data as they are:
    files = ["answers.jsonl"] in a recipe.

    \b
    Example:
      firsttoken distill generate path/to/teacher prompts.jsonl -o answers.jsonl --max-tokens 256
      firsttoken distill generate path/to/reasoner prompts.jsonl -o answers.jsonl --thinking-end "</think>" --max-thinking 2000
      firsttoken distill generate http://localhost:8000/v1 maths.jsonl -o answers.jsonl --samples 4 --temperature 0.6 --check maths
    """
    from firsttoken.report.progress_bar import progress_bar

    given = {name: value for name, value in locals().items() if name in teacher_options.OF_SERVERS}
    of_checkpoints = raw or max_thinking is not None or any((thinking_end, min_thinking, ignore_end, wait != "Wait"))
    of_checkpoints = of_checkpoints or however_long or (batch, dtype, device) != (1, "float32", "auto")
    if teacher_options.ask_servers(teacher, prompts, output, given, max_tokens, temperature, seed, of_checkpoints, Output(as_json)):
        return
    need("distill", "asking a teacher")
    from firsttoken.distill.generate import AnswerSettings, Placing
    from firsttoken.distill.generate import generate as work

    out = Output(as_json)
    settings = AnswerSettings(max_tokens, temperature, seed, raw, thinking_end, max_thinking, min_thinking, ignore_end, wait)
    with progress_bar() as report:
        count = work(Path(teacher), prompts, output, settings, report, Placing(batch, checked_dtype(dtype), device, however_long))
    out.show(f"{output}: {count} answers")
    out.document({"output": output, "answers": count})


@app.command()
def select(
    pool: Annotated[Path, typer.Argument(metavar="POOL", help="JSONL file of samples to choose from.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="JSONL file for the chosen ones.", show_default=False)],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many to keep at most.")] = 1000,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option("--evaluation", metavar="FILE", help="Leave out what shares 13 words in a row with this file; may be repeated."),
    ] = None,
    easiest: Annotated[
        float, typer.Option("--leave-easiest", min=0, max=0.99, help='Share with the lowest "difficulty" to leave out.')
    ] = 0.0,
    solved_by: Annotated[
        list[Path] | None,
        typer.Option(
            "--solved-by",
            metavar="FILE",
            help='Leave out what these answers of a model solve; needs a "reference" in the lines; may be repeated.',
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Start of the random numbers.")] = 0,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Choose few good samples from many, with the reason for each.

    Domains are equally likely; within one, longer samples are likelier. A line may have "domain" and "difficulty".

    \b
    Example:
      firsttoken distill select pool.jsonl -o chosen.jsonl --count 1000 --evaluation test.jsonl
    """
    from firsttoken.distill.select import select_file

    chosen = select_file(pool, output, count, tuple(evaluation or ()), easiest, seed, tuple(solved_by or ()))
    out = Output(as_json)
    out.show(f"{output}: {len(chosen.kept)} samples, each with its reason")
    out.show(*(f"  {number} left out: {why}" for why, number in chosen.left_out.items()))
    out.document({"output": output, "kept": len(chosen.kept), "left_out": chosen.left_out})


@app.command()
def difficulty(
    pool: Annotated[Path, typer.Argument(metavar="POOL", help="JSONL file of samples.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="JSONL file for the same lines with their difficulty.", show_default=False),
    ],
    model: Annotated[Path, typer.Option("--model", metavar="CKPT", help="Checkpoint in whose eyes a sample is hard.", show_default=False)],
    length: Annotated[int, typer.Option("--length", min=2, help="Tokens of a sample that are looked at.")] = 1024,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Add to every sample how hard it is for a model: the cross-entropy of what would be learned of it.

    An interrupted run goes on when the same command is given again.

    \b
    Example:
      firsttoken distill difficulty pool.jsonl -o rated.jsonl --model path/to/student
      firsttoken distill select rated.jsonl -o chosen.jsonl --count 1000 --leave-easiest 0.3
    """
    from firsttoken.report.progress_bar import progress_bar

    need("distill", "rating samples")
    from firsttoken.distill.difficulty import add_difficulty

    out = Output(as_json)
    with progress_bar() as report:
        count = add_difficulty(pool, output, model, length, report)
    out.show(f"{output}: {count} samples with their difficulty, in nats per token")
    out.document({"output": output, "samples": count})


@app.command()
def recipes(as_json: Json = False, verbose: Verbose = False) -> None:
    """List the built-in recipes."""
    from firsttoken.declarations import declaration_folder
    from firsttoken.distill.classifiers.recipe import ClassifierRecipe, classifier_names, load_classifier
    from firsttoken.distill.recipe import Recipe, load_recipe, recipe_names
    from firsttoken.report.tables import table

    loaded: list[Recipe | ClassifierRecipe] = [*map(load_recipe, recipe_names()), *map(load_classifier, classifier_names())]
    rows = [(r.name, r.summary, " + ".join(loss.kind for loss in r.losses), str(r.training.steps)) for r in loaded]
    folder, out = declaration_folder("recipes"), Output(as_json)
    out.show(
        table(None, ("recipe", "summary", "losses", "steps"), rows, left=3),
        f"\nThe files are short; copy one, change it and give its path: {folder}",
    )
    out.document({"folder": folder, "recipes": loaded})
