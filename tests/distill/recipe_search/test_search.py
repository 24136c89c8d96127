"""Whole searches: trials are stopped early, a cut-short search ends as one that was not, and what was found runs."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from firsttoken.distill.distill import distill
from firsttoken.distill.recipe_search import search as module
from firsttoken.distill.recipe_search.search import search
from firsttoken.distill.recipe_search.study import JOURNAL
from firsttoken.errors import FirstTokenError

SETTINGS = {"trials": 6, "halvings": 1, "keep_one_in": 2, "fixed": ("temperature_end",), "ranges": {"learning_rate": (1e-5, 1e-1)}}


def run(recipe, output, **changes):
    lines = []
    restart = changes.pop("restart", False)
    return search(recipe, output, SETTINGS | changes, restart, say=lines.append), lines


def results(folder):
    return {name: (folder / name).read_bytes() for name in ("best.toml", "search.json", "search.html")}


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A place for the search that several tests begin with."""
    return {"folder": tmp_path_factory.mktemp("once") / "straight"}


@pytest.fixture
def finished(make_recipe, tmp_path, once):
    """Recipe, folder (a copy), result and lines of a finished search, which is done once."""
    recipe = make_recipe({"training.steps": 4})
    if "result" not in once:
        once["result"], once["lines"] = run(recipe, once["folder"])
        assert os.listdir(once["folder"].parent) == ["straight"]  # training states are gone
    return recipe, shutil.copytree(once["folder"], tmp_path / "straight"), once["result"], once["lines"]


def test_trials_are_stopped_and_what_was_found_is_a_recipe(finished, tmp_path):
    recipe, folder, result, lines = finished
    trials = result.record["trials"]
    assert len(trials) == 6 and trials[0]["values"]["learning_rate"] == recipe.training.learning_rate
    stopped = [trial for trial in trials if trial["stopped because"]]
    kept = [trial for trial in trials if not trial["stopped because"]]
    assert stopped and len(kept) >= 2 and all(trial["steps"] == 2 and list(trial["scores"]) == ["2"] for trial in stopped)
    assert all(trial["steps"] == 4 and trial["score"] == trial["scores"]["4"] for trial in kept)
    assert result.record["steps trained"] == sum(trial["steps"] for trial in trials) == 4 * len(kept) + 2 * len(stopped)
    # a trial is stopped because its score is not among the better half of those that came to its rung before it
    for trial in stopped:
        others = sorted(t["scores"]["2"] for t in trials[: trial["number"] + 1])
        assert trial["scores"]["2"] > others[max(0, len(others) // 2 - 1)]
    best = trials[result.record["best"]]
    assert best["score"] == min(trial["score"] for trial in kept) <= trials[0]["score"]
    assert result.recipe.training.learning_rate == best["values"]["learning_rate"] and result.recipe.training.steps == 4
    assert any(line.startswith("trial ") and "stopped: not among the best" in line for line in lines)
    page = (folder / "search.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1 and "not among the best" in page and "<script" not in page and "learning_rate was" in page
    student = distill(folder / "best.toml", tmp_path / "student", say=lambda line: None)
    assert (student / "model.safetensors").exists()


def test_a_trial_is_the_training_of_its_recipe(finished, tmp_path):
    """`distill` of the first trial's recipe, on the same documents and scored on those set aside, comes to the same score."""
    recipe, _, result, _ = finished
    [aside] = set(scored_sources(recipe))
    values = recipe.model_dump(mode="json", by_alias=True, exclude={"search"})
    folder = os.path.dirname(values["data"]["train"][0]["files"][0])
    values["data"]["train"][0]["exclude"] = [aside]
    values["data"]["held_out"] = [os.path.join(folder, aside)]
    student = distill(type(recipe).model_validate(values), tmp_path / "alone", say=lambda line: None)
    figures = json.loads((student / "distillation.json").read_text())["figures"]
    assert figures["student"]["cross_entropy"] == pytest.approx(result.record["trials"][0]["score"], rel=1e-6)


def scored_sources(recipe):
    from firsttoken.distill.recipe_search.split import SearchData
    from firsttoken.distill.students import tokenizer_folder
    from firsttoken.progress import silent
    from firsttoken.tokenizer import Tokenizer

    return SearchData(()).read(recipe, Tokenizer(tokenizer_folder(recipe)), silent)[1].source


def test_a_cached_teacher_is_enough(make_recipe, tmp_path, tiny_model):
    from firsttoken.demo import held_out_text
    from firsttoken.distill.ask_teacher import cache

    cache(make_recipe({"student": {"checkpoint": str(tiny_model)}}), tmp_path / "answers", top=8)
    recipe = make_recipe({"teacher": [{"cache": str(tmp_path / "answers")}], "training.steps": 2})
    with pytest.raises(FirstTokenError, match=r"a cache holds its teacher's answers to all of the training data.*held_out = "):
        run(recipe, tmp_path / "out")
    (tmp_path / "mine.txt").write_text(held_out_text()[30_000:33_000], encoding="utf-8")
    files = {"held_out": (str(tmp_path / "mine.txt"),), "trials": 2}
    with pytest.raises(
        FirstTokenError,
        match=r"temperature_start goes from 1.66667 to 15; .*made for temperatures 1 to 5, asked for 15.*--fix temperature_start",
    ):
        run(recipe, tmp_path / "out", **files)
    ranges = {"temperature_start": (2, 5)}
    result, lines = run(recipe, tmp_path / "out", ranges=ranges, **files)
    assert len(result.record["trials"]) == 2 and any("windows of" in line and "mine.txt" in line for line in lines)
    with pytest.raises(FirstTokenError, match="score is kld, which needs a teacher that is a checkpoint"):
        run(recipe, tmp_path / "kld", score="kld", **files)


class Cut(BaseException):
    """What ends a search as abruptly as a process can end within a test."""


@pytest.mark.parametrize("where", ["state", "finish", "half a line"])
def test_a_search_that_was_cut_short_ends_as_one_that_was_not(finished, tmp_path, monkeypatch, where):
    from firsttoken.distill import trainer

    recipe, folder, result, _ = finished
    calls = []
    with monkeypatch.context() as patch:
        if where == "state":  # a state counts, nothing of the trial is in the study
            mark = trainer.mark_complete

            def stop(at, step):
                mark(at, step)
                calls.append(1)
                if len(calls) == 2:
                    raise Cut

            patch.setattr(trainer, "mark_complete", stop)
        else:  # trained, and not yet in the study
            finish = module.finish

            def stop_finish(study, memory, trial, *rest):
                calls.append(1)
                if len(calls) == 3:
                    raise Cut
                return finish(study, memory, trial, *rest)

            patch.setattr(module, "finish", stop_finish)
        with pytest.raises(Cut):
            run(recipe, tmp_path / "parts")
    if where == "half a line":
        with open(tmp_path / "parts" / JOURNAL, "ab") as stream:
            stream.write(b'{"op_code":4,"worker_id":"x')
        (tmp_path / "parts" / f"{JOURNAL}.lock").symlink_to(tmp_path / "parts" / JOURNAL)
    assert not (tmp_path / "parts/best.toml").exists()
    again, lines = run(recipe, tmp_path / "parts")
    assert again.record == result.record and results(tmp_path / "parts") == results(folder)
    assert any("trials are already done" in line for line in lines)
    assert any("going on from step 2 of 4" in line for line in lines) or where != "state"


@pytest.mark.slow
def test_a_finished_search_goes_on_with_more_trials(finished, make_recipe, tmp_path):
    recipe, folder, _, _ = finished
    more, _ = run(recipe, folder, trials=8)
    straight, lines = run(recipe, tmp_path / "eight", trials=8)
    assert more.record == straight.record and results(folder) == results(tmp_path / "eight") and len(more.record["trials"]) == 8
    assert (folder / "search.html").read_text(encoding="utf-8").count("<svg") == 3
    _, lines = run(recipe, folder, trials=8)
    assert not any(line.startswith("trial ") for line in lines)
    with pytest.raises(FirstTokenError, match=r"began with search.seed = 0, now it is 1; put it back to go on, give --restart"):
        run(recipe, folder, trials=8, seed=1)
    with pytest.raises(FirstTokenError, match="recipe.training.batch = 4, now it is 2"):
        run(make_recipe({"training.batch": 2}), folder)
    assert run(recipe, folder, trials=8)[0].record == straight.record  # the refused ones left nothing
    assert results(folder) == results(tmp_path / "eight")
    restarted, _ = run(recipe, folder, trials=2, seed=1, restart=True)
    assert len(restarted.record["trials"]) == 2


def test_a_budget_holds_whole_trials(make_recipe, tmp_path):
    recipe = make_recipe({"training.steps": 4})
    result, _ = run(recipe, tmp_path / "out", trials=50, budget=13)
    assert 10 <= result.record["steps trained"] <= 13
    with pytest.raises(FirstTokenError, match="a budget of 7 steps; expected at least 8"):
        run(recipe, tmp_path / "less", budget=7)
    assert not (tmp_path / "less").exists()


def test_a_loss_that_is_not_a_number_ends_its_trial_alone(make_recipe, tmp_path):
    """A learning rate of 1e30 makes the weights infinite within a step."""
    recipe = make_recipe({"training.steps": 4, "training.schedule": "constant_with_warmup"})
    result, _ = run(recipe, tmp_path / "out", trials=4, ranges={"learning_rate": (1e-3, 1e38)})
    ended = [trial for trial in result.record["trials"] if "the loss is" in str(trial["stopped because"])]
    assert ended and all(not trial["scores"] for trial in ended if trial["steps"] < 2) and result.record["best"] == 0
    assert "No trial did better than the recipe's own values" in (tmp_path / "out/best.toml").read_text(encoding="utf-8")


def test_folders_of_others_are_left_alone(make_recipe, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("mine")
    with pytest.raises(FirstTokenError, match="holds 'thesis.txt' and no search"):
        run(make_recipe(), tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / JOURNAL).write_text("no journal\n")
    with pytest.raises(FirstTokenError, match="is not a study's journal.*--restart"):
        run(make_recipe(), tmp_path / "other")


CHILD = """
import json, os, signal, sys, torch
torch.set_num_threads(1)
from firsttoken.distill import trainer
from firsttoken.distill.recipe import Recipe
from firsttoken.distill.recipe_search.search import search
values, output, settings, left = json.loads(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), [int(sys.argv[4])]
step = trainer.DistillationTrainer.training_step
def training_step(self, *a, **k):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *a, **k)
trainer.DistillationTrainer.training_step = training_step
search(Recipe.model_validate(values), output, settings)
"""


@pytest.mark.slow
def test_a_killed_search_ends_as_one_that_was_not(make_recipe, tmp_path):
    """By SIGKILL in the third step of a trial, whose second one is a rung."""
    import torch

    recipe = make_recipe({"training.steps": 4})
    settings = {**SETTINGS, "trials": 3}
    values = json.dumps(recipe.model_dump(mode="json", by_alias=True))
    command = [sys.executable, "-c", CHILD, values, str(tmp_path / "killed"), json.dumps(settings), "3"]
    killed = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        _, lines = run(recipe, tmp_path / "killed", trials=3)
        run(recipe, tmp_path / "straight", trials=3)
    finally:
        torch.set_num_threads(threads)
    assert "trial 0: going on from step 2 of 4" in lines
    assert results(tmp_path / "killed") == results(tmp_path / "straight")
