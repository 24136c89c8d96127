"""A student trained on what its teacher writes: the teacher's own greedy answers are the labels, and an interrupted run goes on."""

import json

import pytest
import torch

from firsttoken.distill import documents, generate, sequence_level
from firsttoken.distill.ask_teacher import cache
from firsttoken.distill.distill import distill
from firsttoken.distill.models import load_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer


@pytest.fixture
def recipe(make_recipe, tmp_path):
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"What is {n}?"}) + "\n" for n in range(4)))
    changes = {
        "data.train": [],
        "sequence_level": {"prompts": str(tmp_path / "prompts.jsonl"), "max_tokens": 10},
        "loss": [{"kind": "cross_entropy"}],
        "training.steps": 2,
        "training.evaluate_every": 2,
    }
    return make_recipe(changes)


def test_labels_are_the_teachers_greedy_answers_over_an_interruption(recipe, tmp_path, tiny_model, monkeypatch):
    append, lines = generate.append_line, []

    def stop(output, line):
        lines.append(line)
        if len(lines) == 3:
            raise KeyboardInterrupt
        append(output, line)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(generate, "append_line", stop)
        distill(recipe, tmp_path / "student", say=lambda line: None)
    assert (tmp_path / "student.work/answers.jsonl").read_bytes().count(b"\n") == 2
    said: list[str] = []
    asked = []
    windows = documents.training_windows
    monkeypatch.setattr("firsttoken.distill.running.training_windows", lambda *given: asked.append(windows(*given)) or asked[-1])
    distill(recipe, tmp_path / "student", keep_work=True, say=said.append)
    assert any("the teacher answered 4 prompts" in line for line in said)
    answers = [json.loads(line) for line in (tmp_path / "student.work/answers.jsonl").read_text().splitlines()]
    assert [line["prompt"] for line in answers] == [f"What is {n}?" for n in range(4)]
    # what is learned: the teacher's most likely continuation by transformers' own generate
    tokenizer, teacher = Tokenizer(tiny_model), load_decoder(tiny_model)
    labels = [int(label) for row in asked[0].labels for label in row if label != -100]
    from firsttoken.chat import read_template, render

    prompt = tokenizer.encode(render(read_template(tokenizer.folder, tokenizer.settings), [{"role": "user", "content": "What is 0?"}], tokenizer.settings), begin=False)  # fmt: skip
    with torch.no_grad():
        own = teacher.generate(torch.tensor([prompt]), max_new_tokens=10, do_sample=False, pad_token_id=0)[0, len(prompt) :].tolist()
    text = tokenizer.decode([token for token in own if token not in tokenizer.special.values()])
    assert answers[0]["answer"] == text
    learned = tokenizer.encode(text, begin=False)
    assert labels[: len(learned)] == learned
    record = json.loads((tmp_path / "student/distillation.json").read_text())
    assert record["recipe"]["sequence_level"]["prompts"].endswith("prompts.jsonl")


def test_an_output_whose_name_has_signs_of_patterns_is_trained(recipe, tmp_path):
    distill(recipe, tmp_path / "student [1]*", say=lambda line: None)
    assert (tmp_path / "student [1]*/model.safetensors").exists() and [path.name for path in tmp_path.glob("student*")] == ["student [1]*"]


def test_other_prompts_are_not_gone_on_with(recipe, make_recipe, tmp_path):
    output, say, lines = tmp_path / "student.work", lambda line: None, []
    asked = sequence_level.answered(recipe, output, False, sequence_level_bar, say)
    assert asked.sequence_level is None and asked.data.train[-1].files == (str(output / "answers.jsonl"),)
    assert documents.held_back("answers.jsonl", 50) is False  # whatever share of the files is held back
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Something else?"}\n')
    with pytest.raises(FirstTokenError, match="was begun with prompts"):
        sequence_level.answered(recipe, output, False, sequence_level_bar, say)
    sequence_level.answered(recipe, output, True, sequence_level_bar, lines.append)
    assert "answered 1 prompts" in lines[0]


def sequence_level_bar():
    from firsttoken.distill.distill import no_bar

    return no_bar()


def test_what_cannot_be_is_refused(recipe, make_recipe, tmp_path, monkeypatch):
    with pytest.raises(FirstTokenError, match=r"\[sequence_level\] is for .*distill generate"):
        cache(recipe, tmp_path / "cache")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(FirstTokenError, match=r"\[sequence_level\] runs in one process"):
        distill(recipe, tmp_path / "student")
    with pytest.raises(FirstTokenError, match="data.train is missing; expected at least one"):
        make_recipe({"sequence_level": None})
    with pytest.raises(FirstTokenError, match="lets the first .*teacher.* write, which has to be a checkpoint"):
        make_recipe({"sequence_level": {"prompts": "x"}, "teacher": []})


def test_restart_asks_again_and_keeps_what_it_has_just_made(recipe, tmp_path):
    distill(recipe, tmp_path / "student", keep_work=True, say=lambda line: None)
    (tmp_path / "student.work/answers.jsonl").write_text("")
    distill(recipe, tmp_path / "student", force=True, restart=True, keep_work=True, say=lambda line: None)
    assert len((tmp_path / "student.work/answers.jsonl").read_text().splitlines()) == 4
    assert list((tmp_path / "student.work").glob("encoded-*")), "training data is mapped to the end of the run"


def test_what_is_not_a_runs_folder_is_left_alone(recipe, tmp_path):
    (tmp_path / "student.work").mkdir()
    for name in ("answers.jsonl", "notes.txt"):
        (tmp_path / "student.work" / name).write_text("mine")
    with pytest.raises(FirstTokenError, match="which is not a run's"):
        distill(recipe, tmp_path / "student", say=lambda line: None)
    assert (tmp_path / "student.work/answers.jsonl").read_text() == "mine"
