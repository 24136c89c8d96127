#!/usr/bin/env python3
"""Small convolutional students on scikit-learn's digits, over several seeds: layers, pruned channels, widths, mixed samples.

  scripts/benchmarks/small_images.py --steps 400              all tables of docs/small-models.md, three seeds
  scripts/benchmarks/small_images.py --only widths --seeds 1 --steps 20   a quick look at whether it works

Networks, losses and data are those of the built-in recipes digits-transformer-cnn, digits-pruned, digits-elastic and digits-separable; the
loop around them is this script's (AdamW, cosine, gradients clipped at 1), which takes a quarter of a recipe's time for networks as small as
these. Within a seed all students see the same samples in the same order. Prints Markdown tables of held-out accuracy, mean and 95 %
interval of the mean (Student's t), and of differences within a seed. Needs `pip install -e '.[distill,prune]'`.
"""

import argparse
import copy
import math
import sys
from collections.abc import Iterator

import torch
from torch import nn

from firsttoken.distill.classifiers.arch_model import build
from firsttoken.distill.classifiers.data import load_data, split
from firsttoken.distill.classifiers.elastic import Elastic, ElasticDistillation
from firsttoken.distill.classifiers.models import make_model
from firsttoken.distill.classifiers.prune import plan_steps, pruned
from firsttoken.distill.classifiers.recipe import ClassifierStudent, load_classifier
from firsttoken.distill.classifiers.run import interval
from firsttoken.distill.classifiers.size import multiply_adds
from firsttoken.distill.mixing import Mixing
from firsttoken.distill.models import parameters_of
from firsttoken.distill.modules import ModuleDistillation
from firsttoken.distill.objective import Moment
from firsttoken.distill.recipe import Loss
from firsttoken.errors import FirstTokenError

RESIDUAL = [{"conv": {"channels": 8}}, "batch_norm", "relu", {"residual": {"channels": 8}}, {"residual": {"channels": 16, "stride": 2}}, "global_average_pool", "dense"]  # fmt: skip
MIXINGS = {"none": None, "mixup 0.2": Mixing(mixup=0.2), "CutMix 1.0": Mixing(cutmix=1.0), "either": Mixing(mixup=0.2, cutmix=1.0)}
WAYS = ("labels", "distilled")
Row = tuple[str, str, nn.Module]  # what it is, "labels" or "distilled", the network


class Seed:
    """One seed of a recipe: its data, its trained teacher, and what trains students beside it."""

    def __init__(self, name: str, seed: int, steps: int) -> None:
        self.recipe, self.seed, self.steps = load_classifier(name), seed, steps
        self.inputs, self.labels = load_data(self.recipe, seed)
        self.train, self.held_out = split(self.labels, self.recipe.classifier.train_share, seed)
        self.rate = self.recipe.student.learning_rate
        self.classes = int(self.labels.max()) + 1
        self.teacher: nn.Module | None = None
        self.teacher = self.learn(self.fresh(self.recipe.teachers[0]), "labels", 2 * steps)

    def fresh(self, model) -> nn.Module:
        """A model of the recipe with the seed's first weights."""
        torch.manual_seed(self.seed)
        return make_model(self.recipe, model, self.inputs, self.classes)

    def learn(self, network: nn.Module, way: str, steps: int, rate: float | None = None, mixing: Mixing | None = None) -> nn.Module:
        """Trains a network from the labels, or as the recipe distils, and returns it."""
        training, distilled = self.recipe.training, way == "distilled"
        losses = self.recipe.losses if distilled else (Loss(kind="cross_entropy"),)
        kind = ElasticDistillation if isinstance(network, Elastic) else ModuleDistillation
        teacher = copy.deepcopy(self.teacher) if distilled else None
        objective = kind(network, teacher, losses, self.inputs[:2], (), mixing, self.seed).train()
        if teacher is not None:
            teacher.eval()
        rate = rate or training.learning_rate
        optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.0)
        random = torch.Generator().manual_seed(self.seed)
        order = torch.cat([torch.randperm(len(self.train), generator=random) for _ in range(1 + steps * training.batch // len(self.train))])
        for step in range(steps):
            progress = step / max(1, steps - 1)
            index = self.train[order[step * training.batch : (step + 1) * training.batch]]
            moment = Moment(progress, self.recipe.temperature.at(progress), tuple(loss.weight.at(progress) for loss in losses))
            loss, _ = objective(self.inputs[index], self.labels[index], index, moment, float(len(index)))
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), training.clip_gradient)
            optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            optimizer.step()
            optimizer.zero_grad()
        return network.eval()

    @torch.no_grad()
    def accuracy(self, network: nn.Module) -> float:
        """Right answers among those held out, in percent."""
        right = network.eval()(self.inputs[self.held_out]).argmax(-1) == self.labels[self.held_out]
        return 100 * float(right.double().mean())


def layers(seed: Seed) -> Iterator[Row]:
    """A Transformer teaches students of several kinds of layers."""
    students = {
        "CNN": seed.recipe.student,
        "depthwise separable": load_classifier("digits-separable").student,
        "ResNet-like": ClassifierStudent(arch=RESIDUAL),
    }
    for name, student in students.items():
        for way in WAYS:
            yield name, way, seed.learn(seed.fresh(student), way, seed.steps, seed.rate)


def pruning(seed: Seed) -> Iterator[Row]:
    """Steps of 5 %, one step, and the small network from scratch, all with the same number of training steps."""
    prune, rate, example = seed.recipe.student.prune, seed.recipe.student.learning_rate, seed.inputs[:2]
    steps = plan_steps(seed.teacher, example, prune)
    longer = seed.steps + prune.steps_between * (len(steps) - 1)
    for way in WAYS:
        made = copy.deepcopy(seed.teacher).requires_grad_(True)
        for number, widths in enumerate(steps, 1):
            made = seed.learn(pruned(made, example, widths), way, prune.steps_between if number < len(steps) else seed.steps, rate)
        yield f"in {len(steps)} steps", way, made
        small = pruned(seed.teacher, example, steps[-1]).requires_grad_(True)
        yield "at once", way, seed.learn(small, way, longer, rate)
        small = pruned(seed.teacher, example, steps[-1]).requires_grad_(True)
        torch.manual_seed(seed.seed)
        for each in small.modules():
            if isinstance(each, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
                each.reset_parameters()
        yield "from scratch", way, seed.learn(small, way, longer)


def widths(seed: Seed) -> Iterator[Row]:
    """Widths of one set of weights, and each as a network alone."""
    student = seed.recipe.student
    for way in WAYS:
        together = seed.learn(seed.fresh(student), way, seed.steps, seed.rate)
        for width in student.widths:
            yield f"together, width {width:g}", way, together.extract(width)
        for width in student.widths:
            torch.manual_seed(seed.seed)
            network = build(student.arch, tuple(seed.inputs.shape[1:]), seed.classes, width)
            yield f"alone, width {width:g}", way, seed.learn(network, way, seed.steps, seed.rate)


def mixing(seed: Seed) -> Iterator[Row]:
    """The same student with mixed samples and without."""
    for name, mixed in MIXINGS.items():
        for way in WAYS:
            yield name, way, seed.learn(seed.fresh(seed.recipe.student), way, seed.steps, seed.rate, mixed)


TABLES = {
    "layers": ("digits-transformer-cnn", layers, None),
    "mixing": ("digits-separable", mixing, "none"),
    "widths": ("digits-elastic", widths, "alone, "),
    "pruning": ("digits-pruned", pruning, "from scratch"),
}


def table(name: str, seeds: int, steps: int | None) -> str:
    """Trains all that a table holds and returns it; the last columns are differences within a seed."""
    recipe, rows_of, base = TABLES[name]
    steps = steps or load_classifier(recipe).training.steps
    found: dict[str, dict[str, list[float]]] = {}
    sizes, teachers = {}, []
    for number in range(1, seeds + 1):
        seed = Seed(recipe, number, steps)
        teachers.append(seed.accuracy(seed.teacher))
        for row, way, network in rows_of(seed):
            found.setdefault(row, {each: [] for each in WAYS})[way].append(seed.accuracy(network))
            sizes[row] = (parameters_of(network), multiply_adds(network, (seed.inputs[:1],)))
        shown = ", ".join(f"{row} {' / '.join(f'{ways[way][-1]:.2f}' for way in WAYS)}" for row, ways in found.items())
        print(f"{name}, seed {number}: teacher {teachers[-1]:.2f}, {shown}", file=sys.stderr, flush=True)
    rest = f" distilled minus {base.strip(', ')} |" if base else ""
    lines = [
        f"{name} ({recipe}, {steps} steps): teacher {parameters_of(seed.teacher):,} parameters, {interval(teachers)} %\n",
        f"| | parameters | multiply-adds | labels | distilled | distilled minus labels |{rest}",
        f"|---|---|---|---|---|---|{'---|' * bool(base)}",
    ]
    for row, ways in found.items():
        gains = [a - b for a, b in zip(ways["distilled"], ways["labels"], strict=True)]
        cells = [row, *(f"{size:,}" for size in sizes[row]), *(interval(each) for each in (ways["labels"], ways["distilled"], gains))]
        if base:
            other = next(each for each in found if each == base or (each.startswith(base) and each.split(", ")[-1] == row.split(", ")[-1]))
            against = [a - b for a, b in zip(ways["distilled"], found[other]["distilled"], strict=True)]
            cells.append(interval(against) if other != row else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, choices=range(1, 11), metavar="N", help="seeds 1 to N (default 3)")
    parser.add_argument("--steps", type=int, help="training steps of a student, a teacher takes twice as many (default: the recipes')")
    parser.add_argument("--only", action="append", choices=TABLES, help="only this table; may be repeated")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"Held-out accuracy in percent, {options.seeds} seeds.\n")
    for name in options.only or TABLES:
        print(table(name, options.seeds, options.steps), "\n", flush=True)


if __name__ == "__main__":
    try:
        main()
    except FirstTokenError as error:
        sys.exit(f"error: {error}")
