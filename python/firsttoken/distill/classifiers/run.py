"""Training what a classifier's recipe says, seed by seed, and writing the student."""

import json
import os
import statistics
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn

from firsttoken.bundle.atomic import Staging, clean
from firsttoken.declarations import declaration_path
from firsttoken.distill.classifiers.data import load_data, split, texts_of
from firsttoken.distill.classifiers.fit import WEIGHTS, check_models, fit
from firsttoken.distill.classifiers.own_samples import class_names, write_samples
from firsttoken.distill.classifiers.programs import PROGRAM, write_programs
from firsttoken.distill.classifiers.pseudo_labels import check_unlabelled, hide_labels, in_words, pseudo_label
from firsttoken.distill.classifiers.recipe import ClassifierRecipe, load_classifier, user_files
from firsttoken.distill.classifiers.tasks import begun
from firsttoken.distill.models import need_transformers, parameters_of
from firsttoken.distill.recipe import UNTRAINED, looks_inside_only
from firsttoken.distill.student_folder import check_student_destination, files_in
from firsttoken.distill.students import Stage
from firsttoken.distill.training_page import read_recipe_text, training_page
from firsttoken.distill.work_folder import alone, open_work, remove_work, work_folder
from firsttoken.errors import FirstTokenError

RECORD, PAGE = "distillation.json", "training.html"
STUDENTS = ("student from labels", "student distilled")
# the two-sided 95 % quantile of Student's t by the number of values
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


def distill_classifier(
    recipe: str | Path | ClassifierRecipe,
    output: str | Path | None = None,
    seeds: int = 1,
    force: bool = False,
    restart: bool = False,
    keep_work: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Trains teachers, student from labels and student distilled for ``seeds`` seeds from the recipe's on; returns the folder.

    It holds the distilled student of the first seed as weights (`WEIGHTS`) and as a program (torch.export; of several widths one each), and
    the figures of all seeds (`RECORD`, `PAGE`). Within a seed both students begin with the same weights and see the same
    samples. Goes on where it was interrupted. Raises `FirstTokenError`.
    """
    need_transformers()
    alone("a classifier's recipe")
    if not 1 <= seeds <= max(STUDENT_T):
        raise FirstTokenError(f"seeds is {seeds}; expected 1 to {max(STUDENT_T)}")
    chosen = recipe if isinstance(recipe, ClassifierRecipe) else load_classifier(recipe)
    text = "" if isinstance(recipe, ClassifierRecipe) else read_recipe_text(declaration_path("recipes", recipe))
    output = Path(os.path.abspath(output or Path("out", chosen.name or "student")))
    check_student_destination(output, force)
    data = load_data(chosen, chosen.seed)
    check_models(chosen, data)
    example = (data[0][:2],) if chosen.tasks is None else (data[0][:2], begun(chosen.tasks, data[1][:2]))
    identity = identity_of(chosen)
    output.parent.mkdir(parents=True, exist_ok=True)
    clean(output.parent)
    work = work_folder(output)
    held = open_work(work, identity, restart)
    if looks_inside_only(chosen.losses):
        say(UNTRAINED)
    try:
        found: list[dict] = []
        distilled: list[tuple[nn.Module, list[dict]]] = []  # student and course of training of every seed
        for seed in range(chosen.seed, chosen.seed + seeds):
            figures, student, history = one_seed(chosen, seed, work / f"seed-{seed}")
            found.append(figures)
            distilled.append((student, history))
            if "pseudo-labels" in figures:
                say(f"seed {seed}: {in_words(figures['pseudo-labels'])}")
            for kind, counts in figures.get("augmented", {}).items():
                say(f"seed {seed}: augmented, {kind}: " + ", ".join(f"{count:,} {what}" for what, count in counts.items()))
            say(f"seed {seed}: " + ", ".join(f"{row} {100 * figures[row]['accuracy']:.2f} %" for row in rows_of(chosen)))
        publish(chosen, output, distilled[0], found, identity, example, text, force)
        say(table_of(found, rows_of(chosen)))
        if not keep_work:
            remove_work(work, say)
    finally:
        os.close(held)
    return output


def identity_of(recipe: ClassifierRecipe) -> dict:
    """What decides the result."""
    from importlib.metadata import version

    deciding = ("torch", "transformers", "accelerate", *(("torch-pruning",) if recipe.student.prune else ()))
    packages = {package: version(package) for package in deciding}
    fields = recipe.model_dump(
        mode="json", exclude={"name": True, "folder": True, "summary": True, "training": {"device", "gradient_checkpointing"}}
    )
    written = user_files(recipe)  # a run of before knew no files: it is refused, as nobody can say whether they are the same
    return {"recipe": fields, "packages": packages, **({"functions' files": written} if written else {})}


def rows_of(recipe: ClassifierRecipe) -> tuple[str, ...]:
    """What is trained in a seed, by name: the teachers, and the student twice."""
    count = len(recipe.teachers)
    return ("teacher", *STUDENTS) if count == 1 else tuple(f"teacher {number}" for number in range(1, count + 1)) + STUDENTS


def one_seed(recipe: ClassifierRecipe, seed: int, folder: Path) -> tuple[dict, nn.Module, list[dict]]:
    """Returns the figures of one seed by row, the distilled student, and the course of its training."""
    inputs, truth = load_data(recipe, seed)
    train, _ = split(truth, recipe.classifier.train_share, seed)
    labels = hide_labels(truth, train, recipe.classifier.labelled_share, seed)
    check_unlabelled(recipe, labels[train])
    more: dict = {}
    copies = None
    if recipe.augment:
        copies, more["augmented"] = copies_of(recipe, seed, train, labels)
    teachers, figures = fit_teachers(recipe, seed, (inputs, labels), folder)
    model, origin = recipe.student, teachers[0][0]  # of a student that is pruned
    _, of_labels, _ = fit(recipe, model, recipe.plan(seed, model), (inputs, labels), folder / "labels", origin=origin, copies=copies)
    if recipe.pseudo_labels is not None:
        labels, more["pseudo-labels"] = pseudo_label(recipe, inputs, labels, truth, train, teachers)
    plan, data = recipe.plan(seed, model, recipe.losses, recipe.temperature), (inputs, labels)
    student, of_student, history = fit(
        recipe, model, plan, data, folder / "distilled", teachers, recipe.layers, origin=origin, copies=copies
    )
    sizes = {"teacher": sum(parameters_of(teacher) for teacher, _ in teachers), "student": parameters_of(student)}
    found = dict(zip(rows_of(recipe), (*figures, of_labels, of_student), strict=True))
    return found | more | {"parameters": sizes, "seed": seed}, student, history


def copies_of(recipe: ClassifierRecipe, seed: int, train: Tensor, labels: Tensor) -> tuple[tuple[Tensor, Tensor], dict]:
    """Tokens and labels of the copies of a recipe's training texts, kept among the user's caches; and how many there are by kind."""
    from firsttoken.cache_folder import cache_folder
    from firsttoken.distill.classifiers.augment import augmented
    from firsttoken.distill.classifiers.encoder import encode

    texts, _ = texts_of(recipe, seed)
    places = train.tolist()
    cache = cache_folder()
    kept = cache / "augmented" if cache else None
    found, numbers, counts = augmented(recipe, [texts[p] for p in places], labels[train].tolist(), seed, kept)
    return (encode(found) if found else torch.zeros(0, 1, dtype=torch.int64), torch.tensor(numbers, dtype=torch.int64)), counts


def fit_teachers(
    recipe: ClassifierRecipe, seed: int, data: tuple[Tensor, Tensor], folder: Path
) -> tuple[list[tuple[nn.Module, float]], list[dict]]:
    """Trains the recipe's teachers, each from first weights of its own; returns them with their weights, and their figures."""
    fitted = [
        fit(recipe, model, recipe.plan(seed, model), data, folder / (f"teacher-{number}" if number else "teacher"), start=number)
        for number, model in enumerate(recipe.teachers)
    ]
    return [(made, model.weight) for (made, _, _), model in zip(fitted, recipe.teachers, strict=True)], [
        figures for _, figures, _ in fitted
    ]


def publish(
    recipe: ClassifierRecipe,
    output: Path,
    first: tuple[nn.Module, list[dict]],
    found: list[dict],
    identity: dict,
    example: tuple[Tensor, ...],
    text: str,
    force: bool,
) -> None:
    """Writes the folder; each exported program is run once and held against the model."""
    import safetensors.torch

    student, history = first
    student.eval()
    with Staging(output) as staging:
        safetensors.torch.save_model(student, str(staging.folder / WEIGHTS))
        programs = write_programs(student, example, staging.folder)
        write_samples(recipe, staging.folder / PROGRAM, staging.folder)
        record = {
            "format": 1,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe name": recipe.name,
            "summary": recipe.summary,
            **identity,
            "seeds": found,
            "programs": programs,
            **({"classes": names} if (names := class_names(recipe)) else {}),
            "files": sorted([*files_in(staging.folder), RECORD, PAGE]),
        }
        (staging.folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        stage = Stage(f"student distilled, seed {recipe.seed}", recipe.training.steps, history=history)
        facts = [("parameters", f"{found[0]['parameters']['teacher']:,} to {found[0]['parameters']['student']:,}")]
        facts += [(row, accuracy(found, row)) for row in rows_of(recipe)]
        facts += [(f"student distilled, width {width:g}", value) for width, value in of_widths(found)]
        (staging.folder / PAGE).write_text(training_page(recipe.name, recipe.summary, [stage], facts, text), encoding="utf-8")
        staging.commit(replace=force)


def interval(values: list[float]) -> str:
    """Mean and, of several, the half width of the 95 % interval of the mean (Student's t)."""
    mean = statistics.fmean(values)
    return (
        f"{mean:.2f}" if len(values) == 1 else f"{mean:.2f} ± {STUDENT_T[len(values)] * statistics.stdev(values) / len(values) ** 0.5:.2f}"
    )


def accuracy(found: list[dict], row: str) -> str:
    """Held-out accuracy of a row over all seeds, in percent."""
    return f"{interval([100 * figures[row]['accuracy'] for figures in found])} %"


def of_widths(found: list[dict]) -> list[tuple[float, str]]:
    """Widths of an elastic student with the held-out accuracy of each over all seeds; of another student nothing."""
    each = [figures[STUDENTS[1]].get("widths", []) for figures in found]
    return [(row[0]["width"], f"{interval([100 * one['accuracy'] for one in row])} %") for row in zip(*each, strict=True)]


def table_of(found: list[dict], rows: tuple[str, ...]) -> str:
    """Teachers, student from labels, student distilled; and the difference of the two within a seed."""
    lines = [f"held-out accuracy, {len(found)} {'seed' if len(found) == 1 else 'seeds, mean and 95 % interval'}:"]
    lines += [f"  {row}: {accuracy(found, row)}" for row in rows]
    lines += [f"  student distilled, width {width:g}: {value}" for width, value in of_widths(found)]
    for task in found[0][STUDENTS[1]].get("tasks", {}):
        for row in rows:
            each = [figures[row]["tasks"][task] for figures in found]
            words = [f"{name} {interval([100 * one[name] for one in each])} %" for name in each[0]]
            lines.append(f"  {row}, task {task}: {', '.join(words)}")
    if "recall_at_1" in found[0][STUDENTS[1]]:
        lines += [f"  {row}, recall at 1: {interval([100 * figures[row]['recall_at_1'] for figures in found])} %" for row in STUDENTS]
    gain = [100 * (figures[STUDENTS[1]]["accuracy"] - figures[STUDENTS[0]]["accuracy"]) for figures in found]
    return "\n".join([*lines, f"  distilled minus labels, seed by seed: {interval(gain)}"])
