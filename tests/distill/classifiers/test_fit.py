"""Training one model: pruning in steps goes on where it stopped, mixed samples are the students' alone, and what cannot be is told before."""

import pytest
import torch
from safetensors.torch import load_file

from firsttoken.distill.classifiers import fit as module
from firsttoken.distill.classifiers.fit import check_models, fit
from firsttoken.distill.classifiers.models import make_model
from firsttoken.distill.classifiers.recipe import ClassifierRecipe
from firsttoken.distill.models import parameters_of
from firsttoken.errors import FirstTokenError

RECIPE = {
    "summary": "own",
    "classifier": {"data": "digits"},
    "teacher": {"arch": [{"conv": {"channels": 8}}, "batch_norm", "relu", {"residual": {"channels": 8}}, "global_average_pool", "dense"]},
    "student": {"prune": {"keep": 0.5, "most_per_step": 0.35, "steps_between": 1}},
    "loss": [{"kind": "forward_kl"}],
    "training": {"steps": 2, "batch": 8, "evaluate_every": 2},
}


def recipe(**changes):
    return ClassifierRecipe.model_validate(RECIPE | changes)


def data():
    random = torch.Generator().manual_seed(1)
    return torch.rand(60, 1, 8, 8, generator=random), torch.arange(60) % 4


def test_pruning_goes_on_where_it_stopped(tmp_path, monkeypatch):
    made, given = recipe(), data()
    torch.manual_seed(0)
    teacher = make_model(made, made.teachers[0], given[0], 4)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    plan = made.plan(1, made.student, made.losses)

    def run(folder):
        return fit(made, made.student, plan, given, folder, [(teacher, 1.0)], origin=teacher)

    student, _, _ = run(tmp_path / "whole")
    between = sorted(path.name for path in (tmp_path / "whole").glob("step-*"))
    assert len(between) >= 2 and parameters_of(student) < parameters_of(teacher) / 2
    sizes = [sum(value.numel() for value in load_file(tmp_path / "whole" / name / "model.safetensors").values()) for name in between]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())  # it stays as it is
    train, calls = module.train, []

    def dies(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "train", dies)
        run(tmp_path / "parts")
    again, _, _ = run(tmp_path / "parts")
    assert (tmp_path / "parts/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    read_back, _, _ = run(tmp_path / "whole")  # finished: nothing is trained
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in read_back.state_dict().items())


def test_mixing_is_the_students_unless_it_says_so():
    mixed = recipe(mixing={"mixup": 0.2})
    assert mixed.plan(1, mixed.student).mixing and mixed.plan(1, mixed.teachers[0]).mixing is None
    both = recipe(mixing={"mixup": 0.2, "teachers": True})
    assert both.plan(1, both.teachers[0]).mixing == both.mixing


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"student": {"prune": {"keep": 0.5, "most_per_step": 0.01}}}, "most_per_step 0.01 is less than one channel"),
        ({"teacher": {"kind": "row-transformer"}}, "expected a network of convolutions, batch norms and linear layers"),
        ({"student": {"arch": ["dense"]}}, "arch, layer 0 .dense.: is behind feature maps"),
        ({"mixing": {"cutmix": 1.0}, "classifier": {"data": "breast-cancer"}, "teacher": {"kind": "mlp"}}, "mixing.cutmix: inputs are"),
    ],
)
def test_what_cannot_be_is_told_before_any_training(changes, message):
    made = recipe(**changes)
    inputs, labels = data()
    with pytest.raises(FirstTokenError, match=message):
        check_models(made, (inputs.flatten(1) if made.classifier.data == "breast-cancer" else inputs, labels))
