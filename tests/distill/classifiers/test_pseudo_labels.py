"""Pseudo-labels: which are taken, that the student sees those alone, and what is said of them."""

import json

import pytest
import torch
from torch import nn

from firsttoken.cli import run as command
from firsttoken.distill.classifiers import fit
from firsttoken.distill.classifiers import run as module
from firsttoken.distill.classifiers.pseudo_labels import answers_of, hide_labels, pseudo_label
from firsttoken.distill.classifiers.recipe import load_classifier
from firsttoken.errors import FirstTokenError

OWN = """
import torch

def data(seed):
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(400, 5, generator=random)
    return inputs, (inputs.sum(1) > 0).long()

def nothing(seed):
    inputs, labels = data(seed)
    return inputs, torch.full_like(labels, -1)

def unlabelled(seed):
    inputs, labels = data(seed)
    labels[::3] = -1
    return inputs, labels
"""
RECIPE = """
summary = "own"
[classifier]
make = "mine.py:data"
labelled_share = 0.2
[pseudo_labels]
threshold = 0.8
[teacher]
kind = "mlp"
width = 32
[student]
kind = "mlp"
width = 4
[[loss]]
kind = "cross_entropy"
[[loss]]
kind = "forward_kl"
[training]
steps = 40
learning_rate = 0.02
evaluate_every = 40
"""


def own(tmp_path, text=RECIPE):
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "own.toml").write_text(text)
    return load_classifier(tmp_path / "own.toml")


def test_only_sure_answers_are_taken_and_both_kinds_say_so(tmp_path):
    recipe = own(tmp_path)
    inputs, truth = module.load_data(recipe, 1)
    train, held_out = module.split(truth, 0.5, 1)
    labels = hide_labels(truth, train, 0.2, 1)
    assert (labels[train] >= 0).sum() == 40 and torch.equal(labels[held_out], truth[held_out])
    torch.manual_seed(0)
    teachers = [(nn.Linear(5, 2), 3.0), (nn.Linear(5, 2), 1.0)]
    mean = (3 * teachers[0][0](inputs).softmax(-1) + teachers[1][0](inputs).softmax(-1)) / 4
    torch.testing.assert_close(answers_of(teachers, inputs), mean)
    sure, classes = mean.max(-1)
    for kind in ("hard", "soft"):
        chosen = recipe.model_copy(update={"pseudo_labels": recipe.pseudo_labels.model_copy(update={"labels": kind})})
        filled, counts = pseudo_label(chosen, inputs, labels, truth, train, teachers)
        fresh = train[labels[train] < 0]
        for place in fresh.tolist():
            wanted = -100 if sure[place] < 0.8 else int(classes[place]) if kind == "hard" else -1
            assert filled[place] == wanted
        others = torch.ones(len(truth), dtype=torch.bool)
        others[fresh] = False
        assert torch.equal(filled[others], labels[others])
        taken = fresh[sure[fresh] >= 0.8]
        assert counts["labelled"] == 40 and counts["unlabelled"] == 160 and 0 < counts["taken"] == len(taken) < 160
        assert counts["right"] == pytest.approx((classes[taken] == truth[taken]).double().mean().item())


def test_teacher_and_labels_see_labelled_samples_and_the_student_the_taken_too(tmp_path, monkeypatch):
    own(tmp_path)
    trained, train_module = {}, fit.train_module

    def watched(objective, plan, train, held_out, work, *rest):
        trained[work.parent.name] = train[1]
        assert (held_out[1] >= 0).all()
        return train_module(objective, plan, train, held_out, work, *rest)

    monkeypatch.setattr(fit, "train_module", watched)
    lines = []
    out = module.distill_classifier(tmp_path / "own.toml", tmp_path / "student", say=lines.append)
    [seed] = json.loads((out / "distillation.json").read_text())["seeds"]
    counts = seed["pseudo-labels"]
    assert len(trained["teacher"]) == len(trained["labels"]) == counts["labelled"] == 40
    assert len(trained["distilled"]) == 40 + counts["taken"] > 60 and (trained["distilled"] >= 0).all()
    assert counts["right"] > 0.85 and f"{counts['taken']} of 160 unlabelled samples taken" in lines[0]
    assert seed["student distilled"]["accuracy"] > 0.8


def test_samples_without_a_label_of_the_users_are_learned_from_the_teacher(tmp_path):
    text = RECIPE.replace("mine.py:data", "mine.py:unlabelled").replace("labelled_share = 0.2\n", "")
    own(tmp_path, text.replace("[pseudo_labels]\nthreshold = 0.8\n", ""))
    out = module.distill_classifier(tmp_path / "own.toml", tmp_path / "all", say=lambda _: None)
    [without] = json.loads((out / "distillation.json").read_text())["seeds"]
    own(tmp_path, text)
    out = module.distill_classifier(tmp_path / "own.toml", tmp_path / "sure", say=lambda _: None)
    [seed] = json.loads((out / "distillation.json").read_text())["seeds"]
    assert "pseudo-labels" not in without and without["student distilled"]["accuracy"] > 0.8
    assert "right" not in seed["pseudo-labels"] and seed["pseudo-labels"]["unlabelled"] > 30


@pytest.mark.parametrize(
    "change,message",
    [
        (("labelled_share = 0.2\n", ""), "every training sample has a label; give classifier.labelled_share"),
        (("mine.py:data", "mine.py:nothing"), "no training sample has a label"),
        (("labelled_share = 0.2", "labelled_share = 0.001"), "leaves none of 200 training samples a label"),
        (("threshold = 0.8", "threshhold = 0.8"), "did you mean 'threshold'"),
        (("threshold = 0.8", "threshold = 1.5"), "threshold"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capfd, change, message):
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "own.toml").write_text(RECIPE.replace(*change).replace("steps = 40", "steps = 2"))
    assert command(["distill", str(tmp_path / "own.toml"), "-o", str(tmp_path / "student")]) == 2
    error = capfd.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "student").exists()


def test_a_seed_hides_the_same_labels_and_another_seed_others():
    labels, train = torch.zeros(50, dtype=torch.int64), torch.arange(40)
    first = hide_labels(labels, train, 0.5, 1)
    assert torch.equal(first, hide_labels(labels, train, 0.5, 1)) and not torch.equal(first, hide_labels(labels, train, 0.5, 2))
    assert hide_labels(labels, train, None, 1) is labels
    with pytest.raises(FirstTokenError, match="leaves none of 40"):
        hide_labels(labels, train, 0.01, 1)
