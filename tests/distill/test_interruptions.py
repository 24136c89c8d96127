"""Runs that are cut short: they go on to the same end, what differs is refused, failures keep what was good."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from firsttoken.distill.distill import distill
from firsttoken.errors import FirstTokenError


def run(recipe, output, **options):
    lines = []
    distill(recipe, output, say=lines.append, **options)
    return output, lines


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_an_early_stop_comes_at_the_same_step_after_an_interruption(make_recipe, tmp_path, monkeypatch):
    from firsttoken.distill import trainer

    recipe = make_recipe(
        {
            "training.steps": 40,
            "training.evaluate_every": 2,
            "training.learning_rate": 0.5,
            "training.early_stop": 3,
            "training.keep": "best",
            "training.schedule": "constant_with_warmup",
        }
    )
    straight, lines = run(recipe, tmp_path / "straight")
    [stopped] = [line for line in lines if "no longer improved" in line]
    mark = trainer.mark_complete
    last = int(stopped.split("at step ")[1].split(",")[0]) - 2

    def stop(folder, step):
        mark(folder, step)
        if step == last:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "mark_complete", stop)
        distill(recipe, tmp_path / "parts", say=lambda line: None)
    parts, again = run(recipe, tmp_path / "parts")
    assert stopped in again and weights(parts) == weights(straight)


# The child of the kill test: dies by SIGKILL, without any clean-up, at a step or while a state is being written.
CHILD = """
import json, os, signal, sys, torch
torch.set_num_threads(1)
from firsttoken.distill import trainer
from firsttoken.distill.distill import distill
from firsttoken.distill.recipe import Recipe
values, output, where = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
if where.startswith("step"):
    step = trainer.DistillationTrainer.training_step
    def training_step(self, *a, **k):
        if self.state.global_step == int(where[4:]):
            die()
        return step(self, *a, **k)
    trainer.DistillationTrainer.training_step = training_step
elif where.startswith("save"):
    left = [int(where[4:])]
    def mark_complete(folder, step, mark=trainer.mark_complete):
        left[0] -= 1
        die() if not left[0] else mark(folder, step)
    trainer.mark_complete = mark_complete
distill(Recipe.model_validate(values), output)
"""


@pytest.mark.slow
def test_killed_runs_end_bit_equal_to_an_uninterrupted_one(make_recipe, tmp_path):
    """Killed in a step after the first state, then while the second state is written, then finished; hidden losses, so projections are resumed too."""
    recipe = make_recipe(
        {
            "training.steps": 9,
            "training.batch": 4,
            "training.micro_batch": 2,
            "loss": [{"kind": "forward_kl"}, {"kind": "hidden_l2", "weight": {"start": 1, "end": 0}}],
        }
    )
    values = json.dumps(recipe.model_dump(mode="json", by_alias=True))

    def child(output, where):
        return subprocess.run(
            [sys.executable, "-c", CHILD, values, str(output), where],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    straight = child(tmp_path / "straight", "never")
    assert straight.returncode == 0, straight.stderr
    output = tmp_path / "killed"
    for where in ("step5", "save1"):
        assert child(output, where).returncode == -signal.SIGKILL
        assert not output.exists() and (tmp_path / "killed.work").is_dir()
    last = child(output, "never")
    assert last.returncode == 0 and "going on from step 3 of 9" in last.stdout, last.stderr
    assert weights(output) == weights(tmp_path / "straight")
    assert not (tmp_path / "killed.work").exists()


@pytest.fixture
def interrupted(make_recipe, tmp_path, monkeypatch):
    """A run stopped after its first state."""
    from firsttoken.distill import trainer

    recipe = make_recipe()
    mark = trainer.mark_complete

    def stop(folder, step):
        mark(folder, step)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "mark_complete", stop)
        lines = []
        with pytest.raises(KeyboardInterrupt):
            distill(recipe, tmp_path / "student", say=lines.append)
        assert lines[-1] == "interrupted; the same command goes on from step 3"
    return tmp_path / "student"


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"training.learning_rate": 2e-3}, "recipe.training.learning_rate = 0.001, now it is 0.002.*--restart"),
        ({"loss.0.weight": 0.5}, r"recipe.losses\[0\].weight.start = 0.7, now it is 0.5"),
        ({"seed": 4}, "recipe.seed = 3, now it is 4"),
    ],
)
def test_a_changed_recipe_is_not_continued(interrupted, make_recipe, changes, message):
    with pytest.raises(FirstTokenError, match=message):
        distill(make_recipe(changes), interrupted)
    assert (interrupted.parent / "student.work/stage-0/checkpoint-3/complete.json").exists()
    out, lines = run(make_recipe(changes), interrupted, restart=True)
    assert not any("going on" in line for line in lines) and out.exists()


def test_changed_data_and_a_changed_teacher_are_not_continued(interrupted, make_recipe, tmp_path, texts):
    (tmp_path / "more.txt").write_text("something else " * 50)
    recipe = make_recipe()
    with pytest.raises(FirstTokenError, match="recipe.data.train"):
        distill(make_recipe({"data.train": [{"files": [str(texts / "part*.txt"), str(tmp_path / "more.txt")]}]}), interrupted)
    identity = json.loads((interrupted.parent / "student.work/identity.json").read_text())
    identity["checkpoints"]["teacher 0"] = "0" * 64
    (interrupted.parent / "student.work/identity.json").write_text(json.dumps(identity))
    with pytest.raises(FirstTokenError, match="checkpoints.teacher 0"):
        distill(recipe, interrupted)


def test_an_interrupted_run_goes_on(interrupted, make_recipe):
    _, lines = run(make_recipe(), interrupted)
    assert any("going on from step 3 of 6" in line for line in lines)


def test_two_runs_do_not_share_a_work_folder(interrupted, make_recipe):
    from firsttoken.bundle.atomic import lock

    held = lock(interrupted.parent / "student.work")
    try:
        with pytest.raises(FirstTokenError, match="another run is at work"):
            distill(make_recipe(), interrupted)
    finally:
        os.close(held)


def test_a_loss_that_is_not_a_number_stops_and_names_step_and_batch(make_recipe, tmp_path, monkeypatch):
    from firsttoken.distill.objective import Distillation

    forward, calls = Distillation.forward, []

    def poisoned(self, *arguments, **named):
        loss, parts = forward(self, *arguments, **named)
        calls.append(1)
        return (loss * float("nan"), parts) if len(calls) == 5 else (loss, parts)

    monkeypatch.setattr(Distillation, "forward", poisoned)
    with pytest.raises(
        FirstTokenError,
        match=r"the loss is nan at step 5 \(forward_kl [\d.]+, cross_entropy [\d.]+\); batch: samples \d+ \(part\d.txt\).*the state of step 3 is kept in .*checkpoint-3",
    ):
        distill(make_recipe(), tmp_path / "student")
    assert not (tmp_path / "student").exists()
    kept = load_file(tmp_path / "student.work/stage-0/checkpoint-3/model.safetensors")
    assert all(torch.isfinite(t).all() for t in kept.values())


def test_an_infinite_gradient_stops_too(make_recipe, tmp_path, monkeypatch):
    from firsttoken.distill.trainer import DistillationTrainer

    step = DistillationTrainer.training_step

    def poisoned(self, *arguments, **named):
        loss = step(self, *arguments, **named)
        if self.state.global_step == 1:
            next(self.model.parameters()).grad[0, 0] = float("inf")
        return loss

    monkeypatch.setattr(DistillationTrainer, "training_step", poisoned)
    with pytest.raises(FirstTokenError, match="the gradient norm is .* at step 2; .*no state was saved yet"):
        distill(make_recipe(), tmp_path / "student")


def test_a_full_disk_keeps_the_last_state(make_recipe, tmp_path, monkeypatch):
    from transformers import Trainer

    save = Trainer._save_optimizer_and_scheduler

    def full(self, folder):
        if self.state.global_step == 6:
            raise OSError(28, "No space left on device")
        save(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
        with pytest.raises(FirstTokenError, match="step 6 cannot be written .*No space left.*the state of step 3 is kept; free space"):
            distill(make_recipe(), tmp_path / "student")
    assert not (tmp_path / "student.work/stage-0/checkpoint-6").exists()
    _, lines = run(make_recipe(), tmp_path / "student")
    assert any("going on from step 3" in line for line in lines)


def test_a_disk_that_fills_up_at_the_very_end_loses_no_training(make_recipe, tmp_path, monkeypatch):
    from transformers import PreTrainedModel

    save = PreTrainedModel.save_pretrained

    def full(self, folder, *arguments, **named):
        if ".work" not in str(folder):
            raise OSError(28, "No space left on device")
        save(self, folder, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedModel, "save_pretrained", full)
        with pytest.raises(FirstTokenError, match="the student cannot be written .*No space left"):
            distill(make_recipe(), tmp_path / "student")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student.work"]
    _, lines = run(make_recipe(), tmp_path / "student")
    assert "training: already done" in lines


# Real limits of the kernel: files may not grow past what is given, as on a full disk.
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from firsttoken.cli import main
main()
"""


@pytest.mark.slow
def test_a_real_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path, texts):
    path = tmp_path / "mine.toml"
    path.write_text(
        f"""summary = "test"
[[teacher]]
checkpoint = "{{demo}}/checkpoint"
[student.cut]
layers = 1
[data]
held_out = ["{texts}/held_out.md"]
length = 32
held_out_windows = 4
[[data.train]]
files = ["{texts}/part0.txt"]
[[loss]]
kind = "forward_kl"
[training]
steps = 2
batch = 2
"""
    )
    for command in (
        ["distill", str(path), "-o", str(tmp_path / "student")],
        ["distill", "cache", str(path), "-o", str(tmp_path / "answers")],
    ):
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, "60000", *command], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
        assert "free space" in done.stderr
    assert not (tmp_path / "student").exists() and not list((tmp_path / "student.work/stage-0").glob("checkpoint-*"))
    assert not list((tmp_path / "answers").iterdir())
