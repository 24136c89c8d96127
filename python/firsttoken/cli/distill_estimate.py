"""``firsttoken distill estimate RECIPE``"""

from typing import Annotated

import typer

from firsttoken.cli.options import RecipeFile, Verbose
from firsttoken.cli.output import Json, Output
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need


def estimate(
    recipe: RecipeFile,
    gpus: Annotated[
        int | None, typer.Option("--gpus", min=1, help="So many GPUs, a process each (default: this machine as it is).")
    ] = None,
    gpu_memory: Annotated[
        float | None, typer.Option("--gpu-memory", min=0.1, max=1e6, metavar="GB", help="Memory of each of them, 10^9 bytes.")
    ] = None,
    fsdp: Annotated[bool, typer.Option("--fsdp", help="The student in shards, as `accelerate launch --use_fsdp` trains it.")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Say what a recipe's training needs: memory of each device, operations, and a cache's size.

    Nothing is loaded: of every model only config.json is read, and one training step is taken without data. The command
    ends with 1 where the training does not fit. `distill` checks the same before it starts.

    \b
    Examples:
      firsttoken distill estimate my-recipe.toml
      firsttoken distill estimate my-recipe.toml --gpus 8 --gpu-memory 80
    """
    need("distill", "the estimate")
    from firsttoken.distill.models import need_transformers
    from firsttoken.distill.recipe import load_recipe

    need_transformers()
    from firsttoken.distill.memory import Machine, this_machine
    from firsttoken.distill.memory import estimate as work
    from firsttoken.report.memory_table import facts, memory_table

    if gpus is None and (gpu_memory is not None or fsdp):
        raise FirstTokenError(f"{'--gpu-memory' if gpu_memory is not None else '--fsdp'} is of GPUs; give --gpus, such as --gpus 8")
    chosen = load_recipe(recipe)
    memory = None if gpu_memory is None else int(gpu_memory * 1e9)
    machine = this_machine(chosen) if gpus is None else Machine(gpus, memory, fsdp)
    found = work(chosen, machine)
    other = work(chosen, machine, checkpointing=not found.step.checkpointing)
    out = Output(as_json)
    out.show(memory_table(found), *facts(chosen, found, other))
    out.document({
        "bytes": dict(found.rows), "other_moments": dict(found.beside), "training": found.training, "peak": found.peak, "fits": found.fits,
        "devices": machine.devices, "memory": machine.memory, "gradient_checkpointing": found.step.checkpointing, "training_otherwise": other.training,
    })  # fmt: skip
    if not found.fits:
        raise typer.Exit(1)
