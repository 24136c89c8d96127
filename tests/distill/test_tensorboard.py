"""Curves in TensorBoard, read back by TensorBoard itself; without it one line says what to install."""

import sys

import pytest

from firsttoken import cli
from firsttoken.distill.distill import distill
from firsttoken.errors import FirstTokenError
from firsttoken.extras import install_command


def test_without_it_nothing_begins(make_recipe, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(FirstTokenError, match="--tensorboard needs tensorboard") as raised:
        distill(make_recipe(), tmp_path / "student", tensorboard=tmp_path / "board")
    assert install_command("tensorboard") in str(raised.value) and not list(tmp_path.iterdir())


def test_a_classifiers_recipe_has_none(tmp_path, capsys):
    assert cli.run(["distill", "digits-cnn", "-o", str(tmp_path / "out"), "--tensorboard", str(tmp_path / "board")]) == 2
    assert "--tensorboard is for a decoder's recipe" in capsys.readouterr().err


def test_the_curves_are_those_of_the_training_over_an_interruption(make_recipe, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason=f"run: {install_command('tensorboard')}")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from firsttoken.distill import trainer

    recipe, board, stopped = make_recipe(), tmp_path / "board", []
    step = trainer.DistillationTrainer.training_step

    def training_step(self, *given, **named):
        if self.state.global_step == 5 and not stopped:  # steps 4 and 5 are written, and no state was saved after 3
            stopped.append(True)
            raise KeyboardInterrupt
        return step(self, *given, **named)

    monkeypatch.setattr(trainer.DistillationTrainer, "training_step", training_step)
    with pytest.raises(KeyboardInterrupt):
        distill(recipe, tmp_path / "student", say=lambda line: None, tensorboard=board)
    distill(recipe, tmp_path / "student", keep_work=True, say=lambda line: None, tensorboard=board)
    curves = EventAccumulator(str(board / "training"))
    curves.Reload()
    loss = curves.Scalars("train/loss")
    assert [event.step for event in loss] == [1, 2, 3, 4, 5, 6]
    import json

    record = json.loads((tmp_path / "student.work/stage-0/student/distillation.json").read_text())
    kept = {entry["step"]: entry for entry in record["history"] if "loss" in entry}
    assert [event.value for event in loss] == pytest.approx([kept[n]["loss"] for n in range(1, 7)])
    scores = {entry["step"]: entry["eval_kld"] for entry in record["history"] if "eval_kld" in entry}
    assert {event.step: event.value for event in curves.Scalars("eval/kld")} == pytest.approx(scores) and len(scores) == 2
    assert {"train/part_forward_kl", "train/temperature", "train/grad_norm", "train/learning_rate"} <= set(curves.Tags()["scalars"])


def test_a_folder_that_cannot_be_made_is_named(make_recipe, tmp_path):
    pytest.importorskip("tensorboard", reason=f"run: {install_command('tensorboard')}")
    (tmp_path / "file").write_text("")
    with pytest.raises(FirstTokenError, match="--tensorboard .*file/board: cannot be made"):
        distill(make_recipe(), tmp_path / "student", tensorboard=tmp_path / "file/board")
