#!/usr/bin/env python3
"""Teacher, student from labels and student distilled, for models that are not decoders, over several seeds.

  scripts/distill_small_models.py                 five seeds, a few minutes on two cores
  scripts/distill_small_models.py --seeds 1 --steps 20       a quick look at whether it works

Data that needs no download: scikit-learn's digits and breast cancer, and a made-up accelerometer series (four kinds of
movement: another frequency and shape each, random phase, speed and noise). Within a seed both students start from the
same weights and see the same samples in the same order for the same number of steps. Prints a Markdown table of held-out
accuracy, mean and 95 % interval of the mean (Student's t), and of the difference within a seed.
Needs `pip install -e '.[distill]' scikit-learn`.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from firsttoken.distill.models import need_transformers, parameters_of
from firsttoken.distill.modules import ModuleDistillation, ModulePlan, train_module
from firsttoken.errors import FirstTokenError
from torch import Tensor, nn

# the two-sided 95 % quantile of Student's t by the number of seeds
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
HIDDEN = 0.1  # weight of the losses between layers


def cnn(width: int) -> nn.Module:
    """Two convolutions and a linear head for 8 by 8 pictures."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * width, 10),
    )


def mlp(inputs: int, width: int, classes: int) -> nn.Module:
    """One hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, classes))


class Recurrent(nn.Module):
    """An LSTM over ``[batch, steps, channels]`` whose last state is classified."""

    def __init__(self, layers: int, width: int, channels: int, classes: int):
        super().__init__()
        self.lstm = nn.LSTM(channels, width, layers, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.lstm(inputs)[0][:, -1])


class RowTransformer(nn.Module):
    """A Transformer encoder over the rows of a picture."""

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.rows = nn.Linear(8, width)
        self.place = nn.Parameter(0.02 * torch.randn(8, width))
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True), layers)
        self.head = nn.Linear(width, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.encoder(self.rows(inputs.squeeze(1)) + self.place).mean(1))


def digits(seed: int) -> tuple[Tensor, Tensor]:
    """1797 pictures of 8 by 8."""
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    return torch.tensor(inputs, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(labels)


def breast_cancer(seed: int) -> tuple[Tensor, Tensor]:
    """569 samples of 30 measures, each brought to mean 0 and deviation 1."""
    from sklearn.datasets import load_breast_cancer

    inputs, labels = load_breast_cancer(return_X_y=True)
    values = torch.tensor(inputs, dtype=torch.float32)
    return (values - values.mean(0)) / values.std(0), torch.tensor(labels)


def movement(seed: int) -> tuple[Tensor, Tensor]:
    """1600 series of 48 steps and 3 axes: still, walking, running, turning."""
    random = torch.Generator().manual_seed(1000 + seed)
    draw = lambda low, high: low + (high - low) * torch.rand(1600, 1, generator=random)  # noqa: E731
    labels = torch.arange(1600) % 4
    time = torch.arange(48)[None] / 16
    phase = 2 * torch.pi * draw(0, 1)
    speed = torch.tensor([0.3, 1.8, 2.4, 1.0])[labels][:, None] * draw(0.75, 1.3)
    swing = torch.tensor([0.15, 0.8, 1.0, 0.6])[labels][:, None] * draw(0.5, 1.5)
    wave = torch.sin(2 * torch.pi * speed * time + phase)
    sharp = torch.where((labels == 2)[:, None], wave.abs(), wave)
    axes = torch.stack([swing * wave, swing * sharp, torch.where((labels == 3)[:, None], time * draw(-0.5, 0.5), 0.2 * wave)], dim=-1)
    return axes + 0.8 * torch.randn(axes.shape, generator=random), labels


# name -> (data, share for training, teacher, student, layer pairs)
Task = tuple[Callable, float, Callable, Callable, tuple[tuple[str, str], ...]]
TASKS: dict[str, Task] = {
    "digits, CNN to CNN": (digits, 0.3, lambda: cnn(32), lambda: cnn(3), (("3", "3"),)),
    "digits, Transformer to MLP": (digits, 0.3, lambda: RowTransformer(64, 2), lambda: mlp(64, 12, 10), ()),
    "breast cancer, MLP to MLP": (breast_cancer, 0.3, lambda: mlp(30, 128, 2), lambda: mlp(30, 3, 2), ()),
    "movement, LSTM 3 layers to 1": (movement, 0.3, lambda: Recurrent(3, 48, 3, 4), lambda: Recurrent(1, 8, 3, 4), (("lstm", "lstm"),)),
}


def plan(steps: int, seed: int, *losses: dict, temperature=1) -> ModulePlan:
    """One training."""
    training = {"steps": steps, "batch": 32, "learning_rate": 3e-3, "schedule": "cosine", "clip_gradient": 1.0, "evaluate_every": steps}
    return ModulePlan(seed=seed, losses=losses, temperature=temperature, training=training)


def run(name: str, seed: int, steps: int, folder: Path) -> dict[str, float]:
    """Trains teacher and students of one task and seed. Returns held-out accuracies in percent, and the sizes."""
    data, share, make_teacher, make_student, layers = TASKS[name]
    inputs, labels = data(seed)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    cut = int(share * len(labels))
    train, held_out = [(inputs[part], labels[part]) for part in (order[:cut], order[cut:])]

    def fit(make: Callable, teacher: nn.Module | None, made: ModulePlan, which: str, pairs=()) -> tuple[nn.Module, float]:
        torch.manual_seed(seed)
        model = make()
        objective = ModuleDistillation(model, teacher, made.losses, inputs[:2], pairs)
        return model, 100 * train_module(objective, made, train, held_out, folder / which)["accuracy"]

    hard, soft = {"kind": "cross_entropy"}, [{"kind": "forward_kl", "weight": 0.7}, {"kind": "cross_entropy", "weight": 0.3}]
    teacher, of_teacher = fit(make_teacher, None, plan(2 * steps, seed, hard), "teacher")
    figures = {"teacher": of_teacher}
    student, figures["labels"] = fit(make_student, None, plan(steps, seed, hard), "labels")
    _, figures["KL, T=4"] = fit(make_student, teacher, plan(steps, seed, *soft, temperature=4), "constant")
    _, figures["KL, T 5 to 1"] = fit(make_student, teacher, plan(steps, seed, *soft, temperature={"start": 5, "end": 1}), "annealed")
    if layers:
        inside = [{"kind": "hidden_l2", "weight": HIDDEN}] + ([{"kind": "attention", "weight": HIDDEN}] if "CNN" in name else [])
        _, figures["and layers"] = fit(
            make_student, teacher, plan(steps, seed, *soft, *inside, temperature={"start": 5, "end": 1}), "inside", layers
        )
    return figures | {"sizes": (parameters_of(teacher), parameters_of(student))}


def interval(values: list[float]) -> str:
    """Mean and half width of the 95 % interval of the mean."""
    mean = statistics.fmean(values)
    return (
        f"{mean:.2f}" if len(values) == 1 else f"{mean:.2f} ± {STUDENT_T[len(values)] * statistics.stdev(values) / len(values) ** 0.5:.2f}"
    )


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, choices=range(1, 11), metavar="N", help="seeds 1 to N (default 5)")
    parser.add_argument("--steps", type=int, default=400, help="training steps of a student; a teacher takes twice as many (default 400)")
    options = parser.parse_args()
    need_transformers()
    columns = ("teacher", "labels", "KL, T=4", "KL, T 5 to 1", "and layers")
    lines = []
    for name in TASKS:
        rows = []
        for seed in range(1, options.seeds + 1):
            with tempfile.TemporaryDirectory() as folder:
                rows.append(run(name, seed, options.steps, Path(folder)))
            print(
                f"{name}, seed {seed}: " + ", ".join(f"{k} {v:.2f}" for k, v in rows[-1].items() if k != "sizes"),
                file=sys.stderr,
                flush=True,
            )
        sizes = rows[0]["sizes"]
        cells = [interval([row[column] for row in rows]) if column in rows[0] else "" for column in columns]
        gain = interval([row["KL, T 5 to 1"] - row["labels"] for row in rows])
        lines.append(f"| {name} | {sizes[0]:,} to {sizes[1]:,} | {' | '.join(cells)} | {gain} |")
    print(f"Held-out accuracy in percent, {options.seeds} seeds, {options.steps} steps.\n")
    print(f"| | parameters | {' | '.join(columns)} | KL, T 5 to 1 minus labels |\n|---|---|{'---|' * (len(columns) + 1)}")
    print("\n".join(lines))


if __name__ == "__main__":
    try:
        main()
    except FirstTokenError as error:
        sys.exit(f"error: {error}")
