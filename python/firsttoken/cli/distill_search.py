"""``firsttoken distill search RECIPE``"""

from pathlib import Path
from typing import Annotated

import typer

from firsttoken.cli.options import RecipeFile, Verbose
from firsttoken.cli.output import Json, Output
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need


def search(
    recipe: RecipeFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where study, best recipe and page go.", show_default=False)
    ],
    trials: Annotated[
        int | None, typer.Option("--trials", "-n", min=2, help="How many trials (default: the recipe's [search], else 20).")
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            "--budget", min=1, metavar="STEPS", help="Training steps of all trials together; no trial begins that it does not hold whole."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Steps of a whole trial (default: training.steps of the recipe).")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Start of the random numbers that draw values (default: 0).")] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="NAME=LOW:HIGH", help="Range of one value, by the name that is shown; may be repeated."),
    ] = None,
    fix: Annotated[
        list[str] | None, typer.Option("--fix", metavar="NAME", help="Leave a value as the recipe has it; may be repeated.")
    ] = None,
    score: Annotated[
        str | None, typer.Option("--score", help="What is made small: cross_entropy (default) or kld, from the teacher.")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Throw the trials in FOLDER away and start over.")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Search a recipe's learning rate, temperature, loss weights and layer pairs.

    Every trial is a short training with other values; after a ninth and a third of its steps only one in three goes on. The
    first trial is the recipe as it is. Trials are scored on training documents that are set aside, never on the recipe's
    held-out text: that one is left to say whether what was found is better.

    FOLDER/best.toml is a recipe for `firsttoken distill`, with a comment on each value; search.html shows every trial. An
    interrupted search goes on when the same command is given again, and a finished one with more --trials. A [search]
    table in the recipe holds the same settings:

    \b
      [search]
      trials = 40
      fixed = ["temperature_end"]
      [search.ranges]
      learning_rate = [3e-4, 3e-3]

    \b
    Examples:
      firsttoken distill search demo-hidden -o out/search --steps 60
      firsttoken distill search my-recipe.toml -o out/search --trials 40 --range learning_rate=3e-4:3e-3 --fix temperature_end
      firsttoken distill out/search/best.toml -o out/student
    """
    from firsttoken.report.progress_bar import progress_bar

    need("distill", "distillation")
    from firsttoken.distill.recipe import load_recipe
    from firsttoken.distill.recipe_search.search import search as work

    table = load_recipe(recipe).search
    given = {"trials": trials, "budget": budget, "steps": steps, "seed": seed, "score": score}
    changes: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    if ranges:
        changes["ranges"] = (dict(table.ranges) if table else {}) | dict(map(parse_range, ranges))
    if fix:
        changes["fixed"] = (*(table.fixed if table else ()), *fix)
    out = Output(as_json)
    found = work(recipe, output, changes, restart, progress_bar, out.say)
    out.document({"folder": found.folder, "search": found.record})


def parse_range(text: str) -> tuple[str, tuple[float, float]]:
    """Returns name and ends of "learning_rate=1e-4:1e-2". Raises `FirstTokenError` for anything else."""
    name, _, ends = text.partition("=")
    low, _, high = ends.partition(":")
    try:
        return name, (float(low), float(high))
    except ValueError:
        raise FirstTokenError(f"--range {text!r}; expected NAME=LOW:HIGH with two numbers, like learning_rate=3e-4:3e-3") from None
