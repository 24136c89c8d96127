"""One recipe in, one student checkpoint out."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from firsttoken.bundle.atomic import clean
from firsttoken.declarations import declaration_path
from firsttoken.distill.compute_time import check_time
from firsttoken.distill.memory import check_memory
from firsttoken.distill.models import need_transformers, write_decoder
from firsttoken.distill.placing import shards_student
from firsttoken.distill.publish import publish, publish_beside
from firsttoken.distill.quantize_stage import check_quantize, run_quantize_stage
from firsttoken.distill.recipe import Recipe, load_recipe
from firsttoken.distill.running import DistillRun
from firsttoken.distill.sequence_level import answered
from firsttoken.distill.student_folder import check_student_destination
from firsttoken.distill.students import plan_stages, student_decoder
from firsttoken.distill.tensorboard import check_board
from firsttoken.distill.training_page import read_recipe_text
from firsttoken.distill.work_folder import identity_of, open_work, remove_work, work_folder
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent


def no_bar() -> AbstractContextManager[Report]:
    """Shows nothing while data is read; the command line passes `firsttoken.report.progress_bar.progress_bar`."""
    return nullcontext(silent)


def distill(
    recipe: str | Path | Recipe,
    output: str | Path | None = None,
    force: bool = False,
    restart: bool = False,
    keep_work: bool = False,
    bar: Callable[[], AbstractContextManager[Report]] = no_bar,
    say: Callable[[str], None] = print,
    tensorboard: Path | None = None,
    however_long: bool = False,
) -> Path:
    """Trains the student that ``recipe`` (a name, a path or a `Recipe`) describes and returns its folder.

    ``output`` defaults to ``out/<recipe's name>``. The folder appears complete or not at all: a checkpoint in Hugging
    Face layout, `RECORD` (what it was made from, and its figures) and `PAGE`. An interrupted run goes on when it is
    called again; ``restart`` starts over. Curves go to the folder ``tensorboard`` too, where one is given. Under ``torchrun`` every process calls this. Raises
    `FirstTokenError`, also before anything starts where memory cannot hold it, or a CPU would compute for days and not ``however_long``.
    """
    need_transformers()
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    text = "" if isinstance(recipe, Recipe) else read_recipe_text(declaration_path("recipes", recipe))
    output = Path(os.path.abspath(output or Path("out", chosen.name or "student")))
    check_student_destination(output, force)
    stages = plan_stages(chosen)
    check_sharding(chosen)
    if tensorboard is not None:
        check_board(tensorboard, output)
    if chosen.quantize is not None:
        check_quantize(chosen, chosen.quantize, student_decoder(chosen))
    main = int(os.environ.get("RANK", "0")) == 0
    check_memory(chosen, say if main else _mute)
    if not however_long:
        check_time(chosen)
    asked = answered(chosen, work_folder(output), restart, bar if main else no_bar, say if main else _mute, however_long)
    run = DistillRun(asked, output, text, main, bar if main else no_bar, say if main else _mute, tensorboard=tensorboard)
    run.identity = identity = identity_of(chosen, run.train, run.held_out)
    held = None
    if main:
        output.parent.mkdir(parents=True, exist_ok=True)
        clean(output.parent)
        held = open_work(run.work, identity, restart)
    try:
        model, outcome = run.train_all(stages), None
        if chosen.quantize is not None:
            run.write_proof_text()
            model, outcome = run_quantize_stage(run, model, chosen.quantize)
        if main:
            run.write_proof_text()
            publish(run, model, stages, outcome, force, write_decoder)
            if not keep_work:
                remove_work(run.work, say)
        else:
            publish_beside(run, model)
    finally:
        if held is not None:
            os.close(held)
    return output


def check_sharding(recipe: Recipe) -> None:
    """Raises `FirstTokenError` for what does not run with a student that FSDP has sharded."""
    if not shards_student():
        return
    if recipe.quantize is not None:
        raise FirstTokenError(
            "[quantize] does not run under FSDP; train without it there, then give the student as student.checkpoint with training.steps = 0"
        )
    for what, asked in (("[on_policy]", recipe.on_policy), ("student.lora", recipe.student.lora)):
        if asked is not None:
            raise FirstTokenError(f"{what} does not run under FSDP; start it without sharding, with torchrun or in one process")


def _mute(_line: str) -> None:
    """What the processes beside the first say."""
