"""``firsttoken distill RECIPE`` and the verbs beside it"""

from pathlib import Path
from typing import Annotated

import typer
import typer.core

from firsttoken.cli.options import Verbose


class DefaultsToRun(typer.core.TyperGroup):
    """A group whose first argument may be a recipe: ``distill RECIPE.toml`` is ``distill run RECIPE.toml``."""

    def parse_args(self, context, arguments):
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
    "  firsttoken distill cache my-recipe.toml -o out/teacher-answers --top 64\n  firsttoken distill generate path/to/teacher prompts.jsonl -o answers.jsonl\n"
    "  torchrun --nproc-per-node 2 $(which firsttoken) distill my-recipe.toml -o out/student",
)
RecipeFile = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Your recipe's .toml, or a name from `firsttoken distill recipes`.", show_default=False)
]


@app.command()
def run(
    recipe: RecipeFile,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where the student goes (default: out/<recipe>).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing student.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Start over instead of going on with an interrupted run.")] = False,
    keep_work: Annotated[bool, typer.Option("--keep-work", help="Keep FOLDER.work, with the last training states.")] = False,
    verbose: Verbose = False,
):
    """Train a student as a recipe says (the word run may be left out).

    A run that was interrupted goes on when the same command is given again. FOLDER appears complete or not at all; it
    holds the checkpoint, training.html with the curves, and distillation.json with what it was made from.

    \b
    Examples:
      firsttoken distill demo-cut -o out/student
      firsttoken distill my-recipe.toml -o out/student --force
    """
    from firsttoken.distill.distill import distill as work
    from firsttoken.report.progress_bar import progress_bar

    work(recipe, output, force, restart, keep_work, progress_bar, say=lambda line: print(line, flush=True))


@app.command()
def cache(
    recipe: RecipeFile,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the answers go.", show_default=False)],
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="How many of the most likely tokens to keep at every position.")] = 64,
    teacher: Annotated[int, typer.Option("--teacher", min=0, help="Which [[teacher]] of the recipe, from 0.")] = 0,
    verbose: Verbose = False,
):
    """Keep a teacher's answers to the recipe's training data on disk.

    Then put cache = "FOLDER" in place of the teacher's checkpoint: training no longer needs it. An interrupted run goes on.

    \b
    Example:
      firsttoken distill cache my-recipe.toml -o out/teacher-answers --top 64
    """
    from firsttoken.distill.ask_teacher import cache as work
    from firsttoken.report.progress_bar import progress_bar

    with progress_bar() as report:
        facts = work(recipe, output, top, teacher, report)
    positions = facts["windows"] * facts["length"]
    print(
        f"{output}: {positions:,} positions, {facts['k']} tokens each, {facts['bytes_per_position']} bytes a position, {positions * facts['bytes_per_position'] / 1e6:,.1f} MB"
    )


@app.command()
def generate(
    teacher: Annotated[Path, typer.Argument(metavar="TEACHER", help="Checkpoint folder of the teacher.", show_default=False)],
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
    verbose: Verbose = False,
):
    """Let a teacher write answers to train on.

    An interrupted run goes on when the same command is given again. The answers are training data as they are:
    files = ["answers.jsonl"] in a recipe.

    \b
    Example:
      firsttoken distill generate path/to/teacher prompts.jsonl -o answers.jsonl --max-tokens 256
      firsttoken distill generate path/to/reasoner prompts.jsonl -o answers.jsonl --thinking-end "</think>" --max-thinking 2000
    """
    from firsttoken.distill.generate import Settings
    from firsttoken.distill.generate import generate as work
    from firsttoken.report.progress_bar import progress_bar

    settings = Settings(max_tokens, temperature, seed, raw, thinking_end, max_thinking, min_thinking, ignore_end, wait)
    with progress_bar() as report:
        count = work(teacher, prompts, output, settings, report)
    print(f"{output}: {count} answers")


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
    seed: Annotated[int, typer.Option("--seed", min=0, help="Start of the random numbers.")] = 0,
    verbose: Verbose = False,
):
    """Choose few good samples from many, with the reason for each.

    Domains are equally likely; within one, longer samples are likelier. A line may have "domain" and "difficulty".

    \b
    Example:
      firsttoken distill select pool.jsonl -o chosen.jsonl --count 1000 --evaluation test.jsonl
    """
    from firsttoken.distill.select import select_file

    chosen = select_file(pool, output, count, tuple(evaluation or ()), easiest, seed)
    print(f"{output}: {len(chosen.kept)} samples, each with its reason")
    for why, number in chosen.left_out.items():
        print(f"  {number} left out: {why}")


@app.command()
def recipes(verbose: Verbose = False):
    """List the built-in recipes."""
    from firsttoken.declarations import declaration_folder
    from firsttoken.distill.recipe import load_recipe, recipe_names
    from firsttoken.report.tables import console, table

    loaded = [load_recipe(name) for name in recipe_names()]
    rows = [(r.name, r.summary, " + ".join(loss.kind for loss in r.losses), str(r.training.steps)) for r in loaded]
    console().print(table(None, ("recipe", "summary", "losses", "steps"), rows, left=3))
    print(f"\nThe files are short; copy one, change it and give its path: {declaration_folder('recipes')}")
