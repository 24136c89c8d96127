"""The estimate is of the run's own step: it follows what the recipe asks for, is near what a process is measured to need, and refuses in time."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from firsttoken.cli import run
from firsttoken.distill import memory
from firsttoken.distill.compute_time import check_time, refuse_days, training_work
from firsttoken.distill.distill import distill
from firsttoken.distill.memory import RESERVE, Machine, check_memory, estimate, plainly_fits, step_of
from firsttoken.distill.memory_step import take
from firsttoken.distill.models import load_decoder, parameters_of
from firsttoken.errors import FirstTokenError

HERE = Machine(gpu=False)
BENCHMARK = Path(__file__).parents[2] / "scripts/benchmarks/training_memory.py"


def rows(found):
    return {name.split(" (")[0]: size for name, size in found.rows}


def test_weights_gradients_and_optimizer_are_counted(make_recipe, tiny_model):
    recipe = make_recipe({"student": {"checkpoint": str(tiny_model)}, "training.micro_batch": 2})
    size = 4 * parameters_of(load_decoder(tiny_model))
    found = rows(estimate(recipe, HERE))
    assert found["student: weights"] == found["teacher 0: weights"] == found["student: gradients"] == size
    assert found["student: optimizer"] == 2 * size
    half = make_recipe({"teacher.0.dtype": "bfloat16", "student.dtype": "bfloat16"})
    assert rows(estimate(half, HERE))["teacher 0: weights"] == rows(estimate(half, HERE))["student: weights"] == size // 2


def test_what_a_layer_keeps_is_what_autograd_saves(make_recipe, tiny_model):
    """Counted by another means, on real tensors: every storage that the forward pass saves for the backward pass."""
    recipe = make_recipe({"student": {"checkpoint": str(tiny_model)}})
    model, saved = load_decoder(tiny_model).train(), {}
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model.model(input_ids=torch.arange(4 * 32).reshape(4, 32), use_cache=False).last_hidden_state
    expected = sum(size for size, _ in saved.values()) + out.nbytes
    assert take(step_of(recipe, HERE)).activations == pytest.approx(expected, rel=0.12)


def test_it_follows_the_recipe(make_recipe):
    step = replace(step_of(make_recipe(), HERE), length=128, sequences=8)
    plain = take(step)
    assert take(replace(step, sequences=16)).activations == pytest.approx(2 * plain.activations, rel=0.02)
    assert take(replace(step, checkpointing=True)).activations < 0.4 * plain.activations
    assert take(replace(step, chunk=1024)).logits > 2.5 * plain.logits
    assert take(replace(step, half=True)).activations < 0.8 * plain.activations
    assert take(replace(step, apart=True)).working > plain.working, "masks of documents"
    shards = estimate(make_recipe({"teacher.0.sharded": True}), Machine(2, None, shards=True))
    whole = estimate(make_recipe({"teacher.0.sharded": None}), Machine(2))
    assert rows(shards)["student: optimizer"] == rows(whole)["student: optimizer"] / 2
    assert "student: buckets that gradients are exchanged in" in rows(whole) and whole.rows[-1][1] == RESERVE


def test_what_cannot_fit_is_refused_before_anything_is_read(make_recipe, tmp_path, monkeypatch):
    recipe = make_recipe({"training.batch": 64, "data.held_out": ["not there"]})
    need = estimate(recipe, HERE)
    for available, refused in ((need.peak - 1, True), (need.peak + 1, False)):
        monkeypatch.setattr(memory, "this_machine", lambda _recipe, size=available: Machine(memory=size, gpu=False))
        assert not plainly_fits(recipe, memory.this_machine(recipe)), "the bound that spares the step is a high one"
        if refused:
            with pytest.raises(FirstTokenError, match="needs .* GB on each of 1 devices.*micro_batch = 32 halves the activations"):
                distill(recipe, tmp_path / "student")
        else:
            check_memory(recipe)
    assert not list(tmp_path.iterdir())
    assert plainly_fits(recipe, Machine(memory=64 * 10**9, gpu=False))


def test_days_on_a_cpu_have_to_be_asked_for(make_recipe, tmp_path, monkeypatch):
    recipe = make_recipe({"training.steps": 10**12, "data.held_out": ["not there"]})
    tokens = 10**12 * 4 * 32
    assert training_work(recipe)["student"] == pytest.approx(3 * tokens * training_work(recipe)["teachers"] / tokens, rel=0.5)
    with pytest.raises(
        FirstTokenError, match=r"this training \(student .* teachers .*\) takes this CPU [\d,.]+ days at least.*--however-long"
    ):
        distill(recipe, tmp_path / "student")
    with pytest.raises(FirstTokenError, match="no such file"):  # further than the time
        distill(recipe, tmp_path / "student", however_long=True)
    check_time(make_recipe({"training.steps": 10}))
    refuse_days(1e12, "little")


def test_the_command_prints_what_it_found_and_ends_with_one_where_it_does_not_fit(tmp_path, recipe_values, capsys):
    shown = {"recipe": "demo-cut"}
    assert run(["distill", "estimate", shown["recipe"], "--gpus", "2", "--gpu-memory", "80", "--json"]) == 0
    fits = json.loads(capsys.readouterr().out)
    assert fits["fits"] and sum(fits["bytes"].values()) == fits["training"] and fits["training_otherwise"] < fits["training"]
    assert run(["distill", "estimate", shown["recipe"], "--gpus", "2", "--gpu-memory", "1"]) == 1
    assert "does NOT fit into the 1.0 GB of each GPU: micro_batch = 4" in capsys.readouterr().out.replace("\n", " ")
    assert run(["distill", "estimate", shown["recipe"], "--gpus", "3"]) == 2
    assert "training.batch 16 cannot be shared by 3 devices" in capsys.readouterr().err.replace("\n", " ")
    assert run(["distill", "estimate", shown["recipe"], "--gpu-memory", "80"]) == 2
    assert "give --gpus" in capsys.readouterr().err


@pytest.mark.slow
def test_it_is_near_what_a_process_is_measured_to_need():
    command = [sys.executable, str(BENCHMARK), "--checkpoints", "demo", "--cases", "plain"]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 0.9 < float(done.stdout.split("|")[-2]) < 1.3, done.stdout


def test_what_is_not_estimated_is_said_and_runs(make_recipe, tiny_model, monkeypatch):
    for changes, what in (
        ({"loss": [{"kind": "uld"}]}, "loss uld"),
        ({"student": {"checkpoint": str(tiny_model), "lora": {}}}, "student.lora"),
    ):
        recipe, said = make_recipe(changes), []
        monkeypatch.setattr(memory, "this_machine", lambda _: Machine(1, 1, gpu=False))
        check_memory(recipe, said.append)
        assert said == [f"note: memory is not estimated for {what}; try a small micro_batch"]
