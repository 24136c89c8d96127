"""Federated students: how data is dealt out, what a client does, and (where Flower is installed) whole rounds by its engine."""

import pytest
import torch
from torch import nn

from firsttoken.distill.classifiers import federated
from firsttoken.distill.classifiers.federated import accuracy_of, federate, need_flower, shards, train_locally
from firsttoken.distill.classifiers.recipe import load_classifier
from firsttoken.errors import FirstTokenError


def test_every_sample_goes_to_one_client_and_evenness_decides_how_alike_they_are():
    labels = torch.arange(600) % 6
    train = torch.arange(0, 600, 2)
    spread = {}
    for evenness in (0.3, 100.0):
        parts = shards(labels, train, 4, evenness, 1)
        assert sorted(torch.cat(parts).tolist()) == train.tolist()
        counts = torch.stack([torch.bincount(labels[part], minlength=6) for part in parts]).double()
        spread[evenness] = (counts / counts.sum(0)).nan_to_num(0.25).std(0).mean().item()
        assert all(torch.equal(a, b) for a, b in zip(parts, shards(labels, train, 4, evenness, 1), strict=True))
    assert spread[0.3] > 3 * spread[100.0]
    with pytest.raises(FirstTokenError, match="of 40 clients get no sample; give fewer clients"):
        shards(labels, train[:5], 40, 0.1, 1)


def test_a_client_takes_its_steps_with_the_recipes_losses():
    recipe = load_classifier("breast-cancer-mlp")
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"learning_rate": 0.02})})
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 30, generator=random)
    teacher = nn.Linear(30, 2)
    labels = teacher(inputs).argmax(-1)
    student = nn.Linear(30, 2)
    before = accuracy_of(student, inputs, labels)
    first = train_locally(recipe, student, [(teacher, 1.0)], (inputs, labels), 5, 0.0, 1)
    train_locally(recipe, student, [(teacher, 1.0)], (inputs, labels), 80, 0.5, 2)
    last = train_locally(recipe, student, [(teacher, 1.0)], (inputs, labels), 5, 0.0, 1)
    assert last < 0.7 * first and accuracy_of(student, inputs, labels) > max(0.9, before)
    assert all(p.grad is None for p in teacher.parameters())


def test_what_is_missing_is_said(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("flwr", "ray") else object())
    with pytest.raises(FirstTokenError, match='flwr and ray is not installed: pip install "flwr.simulation."'):
        need_flower()


@pytest.mark.slow
def test_flowers_engine_averages_what_the_clients_send(monkeypatch):
    """One round of plain weights: the result is the clients' weights averaged by their numbers of samples, computed here without Flower."""
    pytest.importorskip("flwr.simulation", reason="NOT TESTED, federated students: Flower is not installed (docs/text-students.md)")
    pytest.importorskip("ray", reason="NOT TESTED, federated students: Flower's engine is not installed (docs/text-students.md)")
    recipe = load_classifier("breast-cancer-mlp")
    recipe = recipe.model_copy(update={"losses": tuple(loss for loss in recipe.losses if loss.kind == "cross_entropy")})
    made, course = federate(recipe, 1, (), clients=2, rounds=1, steps=3, evenness=1.0)
    inputs, labels = federated.load_data(recipe, 1)
    train, held_out = federated.split(labels, recipe.classifier.train_share, 1)
    wanted: dict = {}
    for number, part in enumerate(shards(labels, train, 2, 1.0, 1)):
        torch.manual_seed(1)
        student = federated.make_model(recipe, recipe.student, inputs, 2)
        train_locally(recipe, student, (), (inputs[part], labels[part]), 3, 0.0, 1 + 1000 + number)
        for name, tensor in student.state_dict().items():
            wanted[name] = wanted.get(name, 0) + tensor * len(part) / len(train)
    for name, tensor in made.state_dict().items():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-4, atol=1e-6)
    assert course == [accuracy_of(made, inputs[held_out], labels[held_out])]
