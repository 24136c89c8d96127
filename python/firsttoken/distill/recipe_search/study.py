"""Optuna's study of a search, in a journal file that an interrupted search goes on from.

The journal holds finished trials, each written whole; what a trial under way needs is a function of them, of the seed
and of its own training states. So a search that was killed draws the same trial again and goes on with it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from firsttoken.distill.recipe_search.space import Space
from firsttoken.distill.work_folder import check_same
from firsttoken.errors import FirstTokenError
from firsttoken.quiet import is_verbose

if TYPE_CHECKING:
    from optuna import Study, Trial

JOURNAL = "search.journal"
NAME = "recipe"
STARTUP = 8  # trials drawn evenly before the sampler (TPE) looks at what the others scored
IDENTITY, WHY = "identity", "stopped because"


@dataclass(frozen=True)
class Drawing:
    """How trials are drawn and compared."""

    space: Space
    seed: int
    first_rung: int
    keep_one_in: int


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The space as Optuna has it."""
    return {
        d.name: IntDistribution(int(d.low), int(d.high)) if d.whole else FloatDistribution(d.low, d.high, log=True)
        for d in space.dimensions
    }


def open_study(folder: Path, identity: dict, restart: bool) -> Study:
    """The study in ``folder``, or a new one; the caller holds the search's lock. Raises `FirstTokenError` for a study of another search."""
    if not is_verbose():
        optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = folder / JOURNAL
    for left in folder.glob(f"{JOURNAL}.lock*"):
        left.unlink()  # of a process that was killed while it wrote
    if restart:
        path.unlink(missing_ok=True)
    drop_half_line(path)
    try:
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))), study_name=NAME, direction="minimize", load_if_exists=True
        )
        began = study.user_attrs.get(IDENTITY)
    except OSError as error:
        raise FirstTokenError(f"{path}: cannot be written ({error.strerror}); choose another output with -o") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FirstTokenError(
            f"{path}: is not a study's journal ({str(error)[:120]}); give --restart to start over, or choose another output with -o"
        ) from None
    if began is None:
        study.set_user_attr(IDENTITY, identity)
    else:
        check_same(folder, began, identity)
    return study


def drop_half_line(path: Path) -> None:
    """Takes away what a kill left of a last line: that trial is finished once more, from its last state."""
    if not path.exists():
        return
    whole = path.read_bytes()
    if whole and not whole.endswith(b"\n"):
        os.truncate(path, whole.rfind(b"\n") + 1)


def draw(study: Study, drawing: Drawing) -> tuple[Study, Trial]:
    """Draws the next trial: the recipe's own values first, then Optuna's. Returns it in a study in memory that holds the finished ones.

    What is drawn follows from the seed and the finished trials alone.
    """
    number = len(study.trials)
    seed = int(np.random.SeedSequence([drawing.seed, number]).generate_state(1)[0])
    memory = optuna.create_study(
        direction="minimize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=drawing.first_rung, reduction_factor=drawing.keep_one_in),
    )
    memory.add_trials(study.trials)
    if number == 0:
        memory.enqueue_trial(drawing.space.own)
    return memory, memory.ask(distributions(drawing.space))


def finish(study: Study, memory: Study, trial: Trial, score: float | None, why: str | None) -> FrozenTrial:
    """Writes a finished trial into the journal in one piece: ``score`` of a whole one, else ``why`` it was stopped."""
    if why is not None:
        trial.set_user_attr(WHY, why)
    done = memory.tell(trial, values=score, state=TrialState.COMPLETE if why is None else TrialState.PRUNED)
    study.add_trial(done)
    return done


def whole(study: Study) -> list[FrozenTrial]:
    """The trials that were trained to the end."""
    return [trial for trial in study.trials if trial.state == TrialState.COMPLETE]


def steps_of(trial: FrozenTrial) -> int:
    """Training steps of a finished trial."""
    return trial.user_attrs["steps"]
