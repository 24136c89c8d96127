#!/usr/bin/env python3
"""Federated averaging of a distilled student over clients that Flower simulates, against one client alone and against all data in one place.

  scripts/benchmarks/federated_students.py --seeds 3 --evenness 0.3

Data and models are the recipe digits-cnn's. The teacher is trained on all training samples, and every client has it. All students of a
seed start from the same weights; the two of one place take as many steps as a client does in all rounds. Prints a Markdown table: mean and
95 % interval (Student's t). Needs Flower with its engine, which asks for an environment of its own: `pip install -e '.[distill]' 'flwr[simulation]'`.
"""

import argparse
import sys
from pathlib import Path

import torch
from seed_table import print_table

from firsttoken.distill.classifiers.data import load_data, split
from firsttoken.distill.classifiers.federated import accuracy_of, federate, need_flower, shards, train_locally
from firsttoken.distill.classifiers.models import make_model
from firsttoken.distill.classifiers.recipe import load_classifier
from firsttoken.distill.classifiers.run import fit_teachers
from firsttoken.distill.models import need_transformers
from firsttoken.distill.recipe import Loss
from firsttoken.errors import FirstTokenError


def run(options, seed):
    """Accuracies of one seed in percent."""
    recipe = load_classifier("digits-cnn")
    recipe = recipe.model_copy(update={"layers": (), "losses": tuple(loss for loss in recipe.losses if loss.kind == "forward_kl")})
    hard = recipe.model_copy(update={"losses": (Loss(kind="cross_entropy"),)})
    teacher = recipe.model_copy(update={"teachers": tuple(each.model_copy(update={"steps": 400}) for each in recipe.teachers)})
    inputs, labels = load_data(recipe, seed)
    train, held_out = split(labels, recipe.classifier.train_share, seed)
    teachers, [of_teacher] = fit_teachers(teacher, seed, (inputs, labels), options.work / f"seed-{seed}")
    parts = shards(labels, train, options.clients, options.evenness, seed)

    def alone(chosen, by, places):
        torch.manual_seed(seed)
        student = make_model(chosen, chosen.student, inputs, 10)
        for turn in range(options.rounds):
            progress = turn / max(1, options.rounds - 1)
            train_locally(chosen, student, by, (inputs[places], labels[places]), options.steps, progress, seed + turn)
        return 100 * accuracy_of(student, inputs[held_out], labels[held_out])

    row = {"teacher": 100 * of_teacher["accuracy"]}
    for name, chosen, by in (("labels", hard, ()), ("distilled", recipe, teachers)):
        own = [alone(chosen, by, part) for part in parts]
        row[f"{name}, a client alone (mean)"] = sum(own) / len(own)
        _, course = federate(chosen, seed, by, options.clients, options.rounds, options.steps, options.evenness)
        row[f"{name}, federated"] = 100 * course[-1]
        row[f"{name}, all data in one place"] = alone(chosen, by, train)
        print(f"seed {seed}, {name}: {row}, after each round {[round(100 * each, 1) for each in course]}", file=sys.stderr, flush=True)
    row["federated, distilled minus labels"] = row["distilled, federated"] - row["labels, federated"]
    return row


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, choices=range(1, 11), metavar="N", help="seeds 1 to N (default 3)")
    parser.add_argument("--clients", type=int, default=5, help="simulated clients (default 5)")
    parser.add_argument("--rounds", type=int, default=8, help="rounds of averaging (default 8)")
    parser.add_argument("--steps", type=int, default=30, help="training steps of a client in a round (default 30)")
    parser.add_argument(
        "--evenness", type=float, default=0.3, help="how alike the clients' classes are: 0.1 hardly, 100 quite (default 0.3)"
    )
    parser.add_argument("--work", type=Path, default=Path("build/federated"), help="folder for the teachers (default build/federated)")
    options = parser.parse_args()
    need_transformers()
    need_flower()
    torch.set_num_threads(1)
    rows = [run(options, seed) for seed in range(1, options.seeds + 1)]
    print_table(f"digits-cnn, {options.clients} clients, {options.rounds} rounds of {options.steps} steps", rows)


if __name__ == "__main__":
    try:
        main()
    except FirstTokenError as error:
        sys.exit(f"error: {error}")
