"""How long a CPU would compute at least, from the work and this machine's measured speed; what takes days has to be asked for.

Multiplications and additions per token: 2 for every weight in a forward pass, twice that backward (arXiv:2001.08361, section 2.1),
and 2 for each pair of a query and a key it sees, in width, for scores and values each.
"""

from __future__ import annotations

import time
from functools import cache

from firsttoken.decoder.families import describe
from firsttoken.decoder.walk import parameter_count
from firsttoken.distill.memory import live, model_of, numbers_of, student_config
from firsttoken.distill.memory_step import Model
from firsttoken.distill.placing import processes, training_device
from firsttoken.distill.recipe import Recipe
from firsttoken.errors import FirstTokenError

DAYS = 2.0  # of computing at full speed, after which a run on a CPU has to be asked for
SECONDS = 86_400
SIZE = 1024  # of the matrices whose product is timed
SLOWEST = 1e9  # operations a second that every CPU reaches
HELP = "--however-long runs it all the same"


def forward(config: dict, length: int) -> float:
    """Operations of one token's forward pass in windows of ``length`` tokens, of which it sees half on average."""
    numbers = numbers_of(config)
    attention = 2 * 2 * numbers["num_hidden_layers"] * numbers["hidden_size"] * length / 2
    return 2 * parameter_count(describe(config)) + attention


def training_work(recipe: Recipe) -> dict[str, float]:
    """Operations of the whole training: ``student``, ``teachers``, and ``scores`` on held-out windows."""
    training, data = recipe.training, recipe.data
    student = forward(student_config(recipe), data.length)
    shapes = [model_of(recipe, teacher, "sdpa") for teacher in live(recipe)]
    teachers = sum(forward(shape.config, data.length) for shape in shapes if isinstance(shape, Model))
    tokens = training.steps * training.batch * data.length
    held_out = data.held_out_windows * data.length
    scores = 4 + training.steps // training.evaluate_every  # before, after, as written and again, and in between
    return {
        "student": tokens * student * (4 if training.gradient_checkpointing else 3),
        "teachers": tokens * teachers,
        "scores": held_out * (scores * (student + teachers) + teachers),
    }


@cache
def measured_speed() -> float:
    """Operations a second of a float32 matrix product here, with as many threads as PyTorch has; the best of a few."""
    import torch

    left, right = torch.rand(SIZE, SIZE), torch.rand(SIZE, SIZE)
    best = float("inf")
    for _ in range(4):
        begin = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - begin)
    return 2 * SIZE**3 / best


def check_time(recipe: Recipe) -> None:
    """Raises `FirstTokenError` where a CPU would compute for days at least, saying how long and on what."""
    if training_device(recipe.training.device).type != "cpu":
        work = {"teachers": training_work(recipe)["teachers"]} if any(teacher.device == "cpu" for teacher in live(recipe)) else {}
    else:
        work = training_work(recipe)
    shared = {name: operations / processes() for name, operations in work.items()}
    refuse_days(sum(shared.values()), f"this training ({', '.join(f'{n} {o / sum(shared.values()):.0%}' for n, o in shared.items() if o)})")


def refuse_days(operations: float, what: str) -> None:
    """Raises `FirstTokenError` where so many operations take this CPU days at full speed."""
    if operations < DAYS * SECONDS * SLOWEST:  # nothing has to be timed
        return
    days = operations / measured_speed() / SECONDS
    if days > DAYS:
        raise FirstTokenError(
            f"{what} takes this CPU {days:,.1f} days at least ({operations:.2g} operations at the {measured_speed() / 1e9:,.0f} GFLOP/s that a matrix product reaches here); use a GPU, a smaller teacher, a cache of its answers or fewer steps; {HELP}"
        )
