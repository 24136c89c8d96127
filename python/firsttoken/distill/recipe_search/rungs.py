"""One trial: a training that is scored at every rung, and stopped there where it is not worth going on."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from firsttoken.distill.recipe import Recipe
from firsttoken.distill.running import DistillRun
from firsttoken.distill.trainer import DistillationTrainer, WindowItems, newest_state, remove_incomplete

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def first_rung(steps: int, halvings: int, keep_one_in: int) -> int:
    """The training step at which trials are compared first."""
    return math.ceil(steps / keep_one_in**halvings)


def rungs_of(steps: int, halvings: int, keep_one_in: int) -> list[int]:
    """The training steps at which trials are compared, each ``keep_one_in`` times the one before; ``steps`` is the last.

    Successive halving (Jamieson and Talwalkar, arXiv:1502.07943), asynchronous (ASHA, arXiv:1810.05934).
    """
    rung, found = first_rung(steps, halvings, keep_one_in), []
    while rung < steps:
        found.append(rung)
        rung *= keep_one_in
    return [*found, steps]


class AtRungs(TrainerCallback):
    """Scores and saves at every rung; ``report`` takes step and score and says whether to stop there, ``moved`` every step."""

    def __init__(self, rungs: list[int], score: str, report: Callable[[int, float], bool], moved: Callable[[int], None]) -> None:
        self.rungs, self.key, self.report, self.moved = rungs, f"eval_{score}", report, moved

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # of a training that goes on: a state is only saved where the trial was to go on
        for entry in state.log_history:
            if self.key in entry:
                self.report(int(entry["step"]), entry[self.key])
        self.moved(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        control.should_evaluate = control.should_save = state.global_step in self.rungs
        self.moved(state.global_step)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict[str, float] | None = None, **_: Any
    ) -> None:
        assert metrics is not None, "the Trainer gives what it measured"
        stop = self.report(state.global_step, metrics[self.key])
        if stop or state.global_step == self.rungs[-1]:
            control.should_training_stop, control.should_save = True, False


def train_trial(run: DistillRun, start: PreTrainedModel, recipe: Recipe, folder: Path, callback: AtRungs) -> None:
    """Trains a copy of ``start`` as ``recipe`` says, from the newest complete state in ``folder``. Raises `NotFinite`.

    ``recipe.training.steps`` is the whole trial's, schedules included, wherever it is stopped.
    """
    steps = recipe.training.steps
    training = recipe.training.model_copy(update={"evaluate_every": steps, "save_every": None, "early_stop": None, "keep": "last"})
    recipe = recipe.model_copy(update={"training": training})
    remove_incomplete(folder)
    state = newest_state(folder)
    items = WindowItems(run.train), WindowItems(run.held_out)
    objective = run.objective(copy.deepcopy(start), recipe, run.teachers)
    trainer = DistillationTrainer(objective, recipe, *items, folder, steps, [callback])
    trainer.remove_callback(PrinterCallback)
    if state:
        run.say(f"{folder.name.replace('-', ' ')}: going on from step {state[0]} of {steps}")
    trainer.train(resume_from_checkpoint=str(state[1]) if state else None)
