"""Federated averaging of students: clients keep their data, train the student on it, and Flower's strategy averages the weights.

McMahan et al. 2017 (arXiv:1602.05629). Clients are simulated by Flower's engine (``pip install "flwr[simulation]"``), one Ray
process each at a time; the teacher goes to every client with the first weights.
"""

from collections.abc import Sequence
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from firsttoken.distill.classifiers.data import load_data, split
from firsttoken.distill.classifiers.models import make_model
from firsttoken.distill.classifiers.recipe import ClassifierRecipe
from firsttoken.distill.modules import ModuleDistillation
from firsttoken.distill.objective import Moment
from firsttoken.errors import FirstTokenError

INSTALL = 'pip install "flwr[simulation]" (in an environment of its own: it asks for older typer and rich than firsttoken is tested with)'


def shards(labels: Tensor, train: Tensor, clients: int, evenness: float, seed: int) -> list[Tensor]:
    """Training places of each client: every class is dealt out by shares that a Dirichlet distribution draws (Hsu et al. 2019, arXiv:1909.06335).

    A small ``evenness`` (0.1) gives clients few classes, a large one (100) all alike. Raises `FirstTokenError` where a client would
    get nothing.
    """
    random = numpy.random.default_rng(seed)
    dealt: list[list[int]] = [[] for _ in range(clients)]
    for label in sorted(set(labels[train].tolist())):
        mine = train[labels[train] == label]
        mine = mine[torch.from_numpy(random.permutation(len(mine)))]
        share = random.dirichlet([evenness] * clients)
        ends = (share.cumsum() * len(mine)).round().astype(int).tolist()
        for client, (start, stop) in enumerate(zip([0, *ends[:-1]], [*ends[:-1], len(mine)], strict=True)):
            dealt[client] += mine[start:stop].tolist()
    if not all(dealt):
        raise FirstTokenError(
            f"{sum(not each for each in dealt)} of {clients} clients get no sample; give fewer clients, or a larger evenness than {evenness:g}"
        )
    return [torch.tensor(each) for each in dealt]


def train_locally(
    recipe: ClassifierRecipe, student: nn.Module, teachers: Sequence[tuple[nn.Module, float]], data: tuple[Tensor, Tensor], steps: int,
    progress: float, seed: int,
) -> float:  # fmt: skip
    """Trains a student in place for some steps on ``(inputs, labels)`` with the recipe's losses; returns the mean loss.

    ``progress`` (0 to 1) is where the round stands in the whole: temperature and weights are those of that moment.
    """
    inputs, labels = data
    objective = ModuleDistillation(student, teachers or None, recipe.losses, inputs[:2], recipe.layers if teachers else ()).train()
    training = recipe.training
    optimizer = torch.optim.AdamW(objective.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    moment = Moment(progress, recipe.temperature.at(progress), tuple(loss.weight.at(progress) for loss in recipe.losses))
    random, total = torch.Generator().manual_seed(seed), 0.0
    for _ in range(steps):
        places = torch.randint(len(inputs), (min(training.batch, len(inputs)),), generator=random)
        loss, _ = objective(inputs[places], labels[places], places, moment, float(len(places)))
        optimizer.zero_grad()
        loss.backward()
        if training.clip_gradient:
            nn.utils.clip_grad_norm_(objective.parameters(), training.clip_gradient)
        optimizer.step()
        total += loss.item()
    return total / steps


def accuracy_of(student: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Share of right answers."""
    with torch.no_grad():
        return (student.eval()(inputs).argmax(-1) == labels).double().mean().item()


def federate(
    recipe: ClassifierRecipe, seed: int, teachers: Sequence[tuple[nn.Module, float]], clients: int, rounds: int, steps: int, evenness: float,
    share_asked: float = 1.0,
) -> tuple[nn.Module, list[float]]:  # fmt: skip
    """Trains the recipe's student over simulated clients; returns it, and its held-out accuracy after each round.

    A round asks ``share_asked`` of the clients for ``steps`` steps from the weights of the round before, and averages what they
    send by their numbers of samples (Flower's ``FedAvg``). Raises `FirstTokenError` where Flower is missing or a client fails.
    """
    need_flower()
    from flwr.app import ArrayRecord
    from flwr.serverapp import ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    inputs, labels = load_data(recipe, seed)
    train, held_out = split(labels, recipe.classifier.train_share, seed)
    parts = shards(labels, train, clients, evenness, seed)
    torch.manual_seed(seed)
    student = make_model(recipe, recipe.student, inputs, int(labels.max()) + 1)
    course: list[float] = []

    def score(_round: int, arrays: Any) -> None:
        student.load_state_dict(arrays.to_torch_state_dict())
        course.append(accuracy_of(student, inputs[held_out], labels[held_out]))

    server = ServerApp()

    @server.main()
    def main(grid: Any, _context: Any) -> None:
        fewest = max(1, round(share_asked * clients))
        strategy = FedAvg(
            fraction_train=share_asked, min_train_nodes=fewest, fraction_evaluate=0.0, min_evaluate_nodes=0, min_available_nodes=clients
        )
        begun = ArrayRecord(student.state_dict())
        strategy.start(grid=grid, initial_arrays=begun, num_rounds=rounds, evaluate_fn=score)

    client = client_app(recipe, seed, list(teachers), [(inputs[part], labels[part]) for part in parts], rounds, steps)
    one_at_a_time = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": 1, "include_dashboard": False}}
    run_simulation(server, client, num_supernodes=clients, backend_config=one_at_a_time)
    if len(course) != rounds + 1:
        raise FirstTokenError(f"Flower ended after {max(0, len(course) - 1)} of {rounds} rounds; what went wrong stands in its log above")
    return student, course[1:]


def client_app(
    recipe: ClassifierRecipe, seed: int, teachers: list[tuple[nn.Module, float]], data: list[tuple[Tensor, Tensor]], rounds: int, steps: int
) -> Any:
    """Flower's client: trains the student that it is sent on the share of the data that its number has."""
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp()
    classes = max(int(labels.max()) for _, labels in data) + 1

    @app.train()
    def train(message: Any, context: Any) -> Any:
        torch.set_num_threads(1)
        number, turn = int(context.node_config["partition-id"]), int(message.content["config"]["server-round"])
        inputs, _ = data[number]
        student = make_model(recipe, recipe.student, inputs, classes)
        student.load_state_dict(message.content["arrays"].to_torch_state_dict())
        progress = (turn - 1) / max(1, rounds - 1)
        loss = train_locally(recipe, student, teachers, data[number], steps, progress, seed + 1000 * turn + number)
        metrics = MetricRecord({"loss": loss, "num-examples": len(inputs)})
        return Message(content=RecordDict({"arrays": ArrayRecord(student.state_dict()), "metrics": metrics}), reply_to=message)

    return app


def need_flower() -> None:
    """Raises `FirstTokenError` saying what to install."""
    from importlib.util import find_spec

    missing = [name for name in ("flwr", "ray") if find_spec(name) is None]
    if missing:
        raise FirstTokenError(f"federated students are simulated by Flower, and {' and '.join(missing)} is not installed: {INSTALL}")
