"""One recipe in, a better one out: trials of other values, most of them stopped early, each kept."""

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from firsttoken.atomic_file import write_text
from firsttoken.bundle.atomic import clean, remove
from firsttoken.declarations import YAML, declaration_path
from firsttoken.distill.distill import no_bar
from firsttoken.distill.models import need_transformers
from firsttoken.distill.recipe import Recipe, Search, load_recipe
from firsttoken.distill.recipe_search.best import best_recipe, check_written
from firsttoken.distill.recipe_search.rungs import AtRungs, first_rung, rungs_of, train_trial
from firsttoken.distill.recipe_search.space import Space, rounded, space_of, with_values
from firsttoken.distill.recipe_search.split import SearchData
from firsttoken.distill.recipe_search.study import JOURNAL, WHY, Drawing, draw, finish, open_study, steps_of, whole
from firsttoken.distill.running import DistillRun, check_temperature
from firsttoken.distill.students import cut_model, plan_stages
from firsttoken.distill.teachers import CachedTeacher
from firsttoken.distill.trainer import NotFinite
from firsttoken.distill.training_page import read_recipe_text
from firsttoken.distill.work_folder import alone, identity_of, open_work, remove_work
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial
    from transformers import PreTrainedModel

BEST, RECORD, PAGE = "best.toml", "search.json", "search.html"


@dataclass(frozen=True)
class SearchResult:
    """What a search found: its folder, ``search.json`` as a dictionary, and the recipe of its best trial."""

    folder: Path
    record: dict
    recipe: Recipe


def search(
    recipe: str | Path | Recipe,
    output: str | Path,
    changes: dict | None = None,
    restart: bool = False,
    bar: Callable[[], AbstractContextManager[Report]] = no_bar,
    say: Callable[[str], None] = print,
) -> SearchResult:
    """Searches the values of ``recipe`` that its ``[search]`` names, with ``changes`` to that table's fields.

    ``output`` gets `BEST` (a recipe for `distill`), `RECORD` and `PAGE`, and keeps Optuna's study, so that an interrupted
    search goes on, and a finished one with more trials. Trials are scored on training documents that are set aside
    (`split`); the recipe's held-out text is not looked at. Raises `FirstTokenError`.
    """
    alone("firsttoken distill search")
    need_transformers()
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    text = "" if isinstance(recipe, Recipe) else read_recipe_text(toml_of(recipe))
    settings = checked_settings(chosen, changes or {})
    space = space_of(chosen, settings.ranges, settings.fixed)
    folder = Path(os.path.abspath(output))
    check_folder(folder)
    for line in space.shown():
        say(line)
    run = RecipeSearch(chosen, settings, space, folder, bar, say)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clean(folder.parent)
    except OSError as error:
        raise FirstTokenError(f"{folder}: cannot be written ({error.strerror}); choose another output with -o") from None
    work = run.run.work
    went_on = work.exists()
    held = open_work(work, run.identity, restart)
    try:
        try:
            study = open_study(folder, run.identity, restart)
        except FirstTokenError:
            if not went_on:
                remove(work)  # it says what this call wanted, and the next one may want what the study has
            raise
        run.all_trials(study)
        result = run.write(study, text)
        remove_work(work, say)
    finally:
        os.close(held)
    return result


def checked_settings(recipe: Recipe, changes: dict) -> Search:
    """The ``[search]`` table with ``changes``. Raises `FirstTokenError`."""
    from pydantic import ValidationError

    from firsttoken.declarations import first_problem

    if not recipe.training.steps:
        raise FirstTokenError("training.steps is 0; expected a recipe that trains")
    values = (recipe.search or Search()).model_dump() | changes
    try:
        settings = Search.model_validate(values)
    except ValidationError as error:
        raise FirstTokenError(f"search: {first_problem(error, values, Search)}") from None
    steps = settings.steps or recipe.training.steps
    if settings.budget is not None and settings.budget < 2 * steps:
        raise FirstTokenError(
            f"search: a budget of {settings.budget} steps; expected at least {2 * steps}, the recipe's own trial and one more of {steps} steps each (--steps makes trials shorter)"
        )
    if settings.score == "kld" and not any(teacher.checkpoint for teacher in recipe.teachers):
        raise FirstTokenError("search: score is kld, which needs a teacher that is a checkpoint; expected cross_entropy")
    return settings


def check_folder(folder: Path) -> None:
    """Raises `FirstTokenError` for a folder that holds anything else than a search."""
    if folder.exists() and not folder.is_dir():
        raise FirstTokenError(f"output {folder}: is a file; choose another with -o")
    if folder.is_dir() and not (folder / JOURNAL).exists() and (there := os.listdir(folder)):
        raise FirstTokenError(f"output {folder}: holds {sorted(there)[0]!r} and no search; choose another with -o")


def check_caches(run: DistillRun, space: Space) -> None:
    """Raises `FirstTokenError` where a temperature that may be drawn is none of those that a cached teacher's answers are for."""
    for teacher in run.teachers:
        if isinstance(teacher, CachedTeacher):
            for each in (d for d in space.dimensions if d.name.startswith("temperature")):
                try:
                    check_temperature(teacher.cache, each.low)
                    check_temperature(teacher.cache, each.high)
                except FirstTokenError as error:
                    raise FirstTokenError(
                        f"search: {each.name} goes from {each.low:g} to {each.high:g}; {error}, give a smaller --range {each.name}=LOW:HIGH, or --fix {each.name}"
                    ) from None


def toml_of(recipe: str | Path) -> Path:
    """The recipe's file, of which `BEST` is written. Raises `FirstTokenError` for YAML, whose comments would be lost."""
    path = declaration_path("recipes", recipe)
    if path.suffix in YAML:
        raise FirstTokenError(
            f"recipe {path}: a search writes its best recipe as TOML with your comments, and this is YAML; write it as .toml"
        )
    return path


class RecipeSearch:
    """One call of `search`: the data, the student that every trial starts from, and the trials."""

    def __init__(
        self,
        recipe: Recipe,
        settings: Search,
        space: Space,
        folder: Path,
        bar: Callable[[], AbstractContextManager[Report]],
        say: Callable[[str], None],
    ) -> None:
        self.recipe, self.settings, self.space, self.folder, self.bar, self.say = recipe, settings, space, folder, bar, say
        self.steps = settings.steps or recipe.training.steps
        self.rungs = rungs_of(self.steps, settings.halvings, settings.keep_one_in)
        self.stages = plan_stages(recipe)
        data = SearchData(settings.held_out)
        self.run = DistillRun(recipe, folder, "", True, bar, say, data.read)
        say(f"{data.said}; the recipe's held-out text is not looked at")
        names = {name for name in ("cross_entropy", "kld") if name == "cross_entropy" or any(t.live for t in self.run.teachers)}
        if settings.score not in names:
            raise FirstTokenError("search: score is kld, and no loss of the recipe asks a teacher; expected cross_entropy")
        check_caches(self.run, space)
        decides = {"rungs": self.rungs, "keep one in": settings.keep_one_in, "score": settings.score, "seed": settings.seed}
        ranges = {d.name: [d.low, d.high] for d in space.dimensions}
        self.identity = identity_of(recipe, self.run.train, self.run.held_out) | {"search": {**decides, "ranges": ranges}}
        self.identity["packages"]["optuna"] = version("optuna")
        self.drawing = Drawing(space, settings.seed, first_rung(self.steps, settings.halvings, settings.keep_one_in), settings.keep_one_in)
        self.say(f"trials of {self.steps} steps, compared after {', '.join(map(str, self.rungs))}; one in {settings.keep_one_in} goes on")

    def recipe_of(self, values: dict[str, float]) -> Recipe:
        """What a trial trains: the recipe with these values, as long as trials are."""
        changed = with_values(self.recipe, self.space, values)
        warmup = round(changed.training.warmup_steps * self.steps / changed.training.steps)
        return changed.model_copy(update={"training": changed.training.model_copy(update={"steps": self.steps, "warmup_steps": warmup})})

    def goes_on(self, study: "Study") -> bool:
        """Whether trials and budget leave room for a whole trial."""
        used = sum(map(steps_of, study.trials))
        return len(study.trials) < self.settings.trials and (self.settings.budget is None or used + self.steps <= self.settings.budget)

    def all_trials(self, study: "Study") -> None:
        """Runs trials until trials or budget are used up."""
        if study.trials:
            self.say(f"{len(study.trials)} trials are already done")
        if not self.goes_on(study):
            return
        start = self.first_student()
        while self.goes_on(study):
            self.one_trial(study, start)

    def first_student(self) -> "PreTrainedModel":
        """The student that every trial starts from; cuts and trainings before the last one are the recipe's own, done once."""
        model = self.run.train_all(self.stages[:-1])
        if (sizes := self.stages[-1].sizes) is not None:
            model = cut_model(model, self.recipe, sizes, self.run.train, self.run.attention)
            model.train()
        return model

    def one_trial(self, study: "Study", start: "PreTrainedModel") -> None:
        """Draws, trains and keeps one trial."""
        number = len(study.trials)
        memory, trial = draw(study, self.drawing)
        values = rounded(self.space, trial.params)
        folder = self.trial_folder(number, values)
        reached: list[tuple[int, float]] = []
        stopped: list[str] = []

        def report(step: int, score: float) -> bool:
            reached.append((step, score))
            trial.report(score, step)
            if step < self.steps and trial.should_prune():
                stopped.append(f"not among the best of those compared after {step} steps")
            return bool(stopped)

        moved = 0

        def at(step: int) -> None:
            nonlocal moved
            moved = step
            shown(f"trial {number} (at most {self.settings.trials - 1})", step, self.steps, "steps")

        with self.bar() as shown:
            try:
                train_trial(self.run, start, self.recipe_of(values), folder, AtRungs(self.rungs, self.settings.score, report, at))
            except NotFinite as error:
                stopped.append(str(error))
            except KeyboardInterrupt:
                self.say(f"interrupted; the same command goes on with trial {number}")
                raise
        trial.set_user_attr("steps", moved)
        trial.set_user_attr("values", values)
        finish(study, memory, trial, None if stopped else reached[-1][1], stopped[0] if stopped else None)
        remove(folder)
        score = f"{self.settings.score} {reached[-1][1]:.4f} after {reached[-1][0]} steps" if reached else "no score"
        shown_values = ", ".join(f"{name} {value:g}" for name, value in values.items())
        self.say(f"trial {number}: {score}{f', stopped: {stopped[0]}' if stopped else ''} ({shown_values})")

    def trial_folder(self, number: int, values: dict[str, float]) -> Path:
        """Where a trial keeps its training states; what lies there of other values is taken away."""
        folder = self.run.work / f"trial-{number}"
        path = folder / "values.json"
        if not path.exists() or json.loads(path.read_text(encoding="utf-8")) != values:
            remove(folder)
            folder.mkdir(parents=True)
            write_text(path, json.dumps(values) + "\n")
        return folder

    def write(self, study: "Study", text: str) -> SearchResult:
        """Writes recipe, record and page of what was found, and says it."""
        from firsttoken.distill.recipe_search.page import search_page

        best = min(whole(study), key=lambda trial: (trial.value, trial.number))
        own = study.trials[0]
        values = best.user_attrs["values"]
        found = with_values(self.recipe, self.space, values)
        record = self.record(study, best)
        score = self.settings.score
        header = [
            f"Found by `firsttoken distill search`: trial {best.number} of {len(study.trials)}, {record['steps trained']:,} training steps together.",
            f"Held-out {score} of the search's own text after {self.steps} steps: {best.value:.4f}; the recipe it began with: {own.value:.4f}.",
        ]
        if best.number == own.number:
            header.append("No trial did better than the recipe's own values, which these are.")
        write_text(self.folder / BEST, best_recipe(self.recipe, text, found, self.space, self.folder, header))
        check_written(self.folder / BEST, found)
        write_text(self.folder / RECORD, json.dumps(record, indent=1) + "\n")
        toml = (self.folder / BEST).read_text(encoding="utf-8")
        write_text(self.folder / PAGE, search_page(self.recipe.name, self.space, record, study.trials, toml))
        for line in header:
            self.say(line)
        self.say(f"{self.folder / BEST}: train it with `firsttoken distill {self.folder / BEST}`; all trials in {PAGE} and {RECORD}")
        return SearchResult(self.folder, record, load_recipe(self.folder / BEST))

    def record(self, study: "Study", best: "FrozenTrial") -> dict:
        """What ``search.json`` says; the same for an interrupted search and one that was not."""
        return {
            "format": 1,
            "recipe name": self.recipe.name,
            "score": self.settings.score,
            "best": best.number,
            "steps trained": sum(map(steps_of, study.trials)),
            "space": {d.name: {"low": d.low, "high": d.high, "recipe": d.own, "what": d.what} for d in self.space.dimensions},
            "not searched": self.space.absent,
            "trials": [trial_record(trial) for trial in study.trials],
            **self.identity,
        }


def trial_record(trial: "FrozenTrial") -> dict:
    """One trial of ``search.json``."""
    return {
        "number": trial.number,
        "values": trial.user_attrs["values"],
        "steps": steps_of(trial),
        "scores": {str(step): score for step, score in sorted(trial.intermediate_values.items())},
        "score": trial.value if trial.user_attrs.get(WHY) is None else None,
        "stopped because": trial.user_attrs.get(WHY),
    }
