"""The same questions to checkpoints and bundles; figures held against independent computations."""

import json

import numpy as np
import pytest
import torch

from firsttoken.cli import run
from firsttoken.demo import checkpoint_path, held_out_text
from firsttoken.errors import FirstTokenError
from firsttoken.evaluate.choice import Question, choose, continuation, read_question
from firsttoken.evaluate.evaluate import EvaluationSettings, evaluate
from firsttoken.evaluate.subject import Subject
from firsttoken.evaluate.text import score_text, windows_of


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "held_out.txt"
    path.write_text(held_out_text()[:6000], encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def transformers_model():
    from firsttoken.distill.models import load_decoder

    return load_decoder(checkpoint_path())


def test_a_checkpoints_perplexity_is_that_of_transformers(text_file, transformers_model):
    subject = Subject(checkpoint_path())
    windows = windows_of(text_file.read_text(encoding="utf-8"), subject.tokenizer, 600, 200)
    assert len(windows) == 3 and {len(window) for window in windows} == {200}
    found = score_text(subject, windows)
    losses = []
    for window in windows:
        tokens = torch.from_numpy(window).long()[None]
        with torch.no_grad():
            logits = transformers_model(input_ids=tokens).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="none"))
    assert found.tokens == 3 * 199 and found.mean_kld is None
    assert found.perplexity == pytest.approx(torch.cat(losses).mean().exp().item(), rel=1e-4)


def test_a_runner_of_a_checkpoint_answers_as_transformers(transformers_model):
    subject = Subject(checkpoint_path())
    tokens = subject.tokenizer.encode("def read(self, size=-1):\n    return self.")
    with torch.no_grad():
        wanted = transformers_model(input_ids=torch.tensor([tokens])).logits[0].numpy()
    runner = subject.runner
    np.testing.assert_allclose(runner.prefill(tokens[:5]), wanted[4], rtol=1e-3, atol=1e-3)
    for place in range(5, len(tokens)):
        np.testing.assert_allclose(runner.decode(tokens[place]), wanted[place], rtol=1e-3, atol=1e-3)
    subject.close()


def test_a_bundle_is_scored_against_its_checkpoint(text_file, demo_bundle):
    bundle = demo_bundle("tflite-xnnpack")
    scores = evaluate([checkpoint_path(), bundle], [f"text={text_file}"], EvaluationSettings(text_tokens=300))
    own, quantized = scores.values()
    assert [score.measure for score in own] == ["perplexity"]
    found = {score.measure: score.value for score in quantized}
    assert found["perplexity"] == pytest.approx(own[0].value, rel=0.05) and found["perplexity"] != own[0].value
    assert 0 < found["KLD"] < 0.02 and 0.9 < found["same top"] <= 1
    # the proof of the same bundle says as much
    subject, reference = Subject(bundle), Subject(checkpoint_path())
    windows = windows_of(text_file.read_text(encoding="utf-8"), subject.tokenizer, 300, subject.cache_length)
    ours, theirs = subject.logits(windows)[0], reference.logits(windows)[0]
    log_p, log_q = (torch.log_softmax(torch.from_numpy(x[:-1]).double(), -1) for x in (theirs, ours))
    assert found["KLD"] == pytest.approx(
        torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1).mean().item(), rel=1e-6
    )
    subject.close()


def test_choices_are_scored_by_their_probability(transformers_model):
    subject = Subject(checkpoint_path())
    prompt, answer = "Question: What follows?\nAnswer:", " self.read(size)"
    tokens = subject.tokenizer.encode(prompt + answer)
    start = len(subject.tokenizer.encode(prompt))
    with torch.no_grad():
        log_q = transformers_model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
    wanted = sum(log_q[place - 1, tokens[place]].item() for place in range(start, len(tokens)))
    assert continuation(subject, prompt, answer) == pytest.approx(wanted, rel=1e-4)
    assert choose(subject, Question("def read(self):", ("return self", "zqxj wvk qqq zz kkx"), 0)) == (0, 0)
    subject.close()


@pytest.mark.parametrize(
    "line,right",
    [
        ({"question": "q", "choices": ["a", "b"], "answer": 1}, 1),
        ({"question": "q", "choices": ["a", "b"], "answer": "B"}, 1),
        ({"question": "q", "choices": ["a", "b"], "answer": "b"}, 1),
        ({"question": "q", "options": ["x", "y", "z"], "answer": "2"}, 2),
        ({"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}, 1),
        ({"question": "q", "choices": ["a", "b"], "answer": 2}, None),
        ({"question": "q", "choices": ["a"], "answer": 0}, None),
        ({"question": "q", "choices": ["a", "b"]}, None),
    ],
)
def test_formats_of_multiple_choice(line, right):
    found = read_question(line)
    assert (found and found.right) == right


def lines(path, values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def test_maths_and_code_go_through_the_models_words_and_are_kept(tmp_path, monkeypatch, capfd):
    """The demo model can do neither, so its words are replaced; all else is real."""
    from firsttoken.evaluate import answers

    said = {"2+2": r"It is \boxed{4}.", "3+3": r"\boxed{7}", "double": "```python\ndef double(x):\n    return 2 * x\n```"}
    asked = []

    def spoken(runner, tokenizer, prompt, *_, **__):
        asked.append(prompt)
        yield next(answer for part, answer in said.items() if part in prompt)

    monkeypatch.setattr(answers, "generate", spoken)
    maths = lines(tmp_path / "maths.jsonl", [{"question": "2+2?", "answer": "#### 4"}, {"problem": "3+3?", "answer": 6}])
    code = lines(tmp_path / "code.jsonl", [{"text": "Write double(x).", "test_list": ["assert double(2) == 4"]}])
    command = ["evaluate", str(checkpoint_path()), "--tasks", f"maths={maths}", "-t", f"code={code}", "--answers", str(tmp_path / "answers.jsonl"), "-o", str(tmp_path / "scores.json")]  # fmt: skip
    assert run(command) == 0
    assert "50.0 %" in capfd.readouterr().out and len(asked) == 3
    [scores] = json.loads((tmp_path / "scores.json").read_text()).values()
    assert {score["measure"]: score["value"] for score in scores} == {"exact match": 0.5, "pass@1": 1.0}
    assert scores[0]["low"] == pytest.approx(0.0945, abs=1e-3) and scores[0]["high"] == pytest.approx(0.9055, abs=1e-3)
    with open(tmp_path / "answers.jsonl", "a") as stream:
        stream.write('{"key": "half a li')  # killed in the middle of a line
    assert run(command) == 0
    assert len(asked) == 3  # nothing was asked twice
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 3


def test_a_real_answer_is_asked_for_within_the_cache(tmp_path, demo_bundle):
    maths = lines(tmp_path / "maths.jsonl", [{"question": "What is 1+1?", "answer": "2"}])
    scores = evaluate([checkpoint_path(), demo_bundle("tflite-xnnpack")], [f"maths={maths}"], EvaluationSettings(max_tokens=8))
    assert [score[0].count for score in scores.values()] == [1, 1]


@pytest.mark.parametrize(
    "task,message",
    [
        ("math={file}", "expected KIND=FILE with a kind of text, maths, choice, code .did you mean 'maths'"),
        ("{file}", "expected KIND=FILE"),
        ("maths={file}", "line 1: has 'x'; expected a question"),
        ("choice={file}", 'line 1: has .x.; expected "question", "choices"'),
        ("code={file}", "line 1: has 'x'; expected"),
        ("maths=missing.jsonl", "missing.jsonl: cannot be read"),
    ],
)
def test_bad_tasks_are_one_line_and_come_first(tmp_path, task, message):
    file = lines(tmp_path / "x.jsonl", [{"x": 1}])
    with pytest.raises(FirstTokenError, match=message):
        evaluate(["no/such/model"], [task.format(file=file)])


def test_bad_models_are_one_line(tmp_path, text_file, demo_bundle):
    task = [f"text={text_file}"]
    with pytest.raises(FirstTokenError, match="none: not a folder; expected"):
        evaluate([tmp_path / "none"], task)
    with pytest.raises(FirstTokenError, match="is given twice"):
        evaluate([checkpoint_path(), checkpoint_path()], task)
    with pytest.raises(FirstTokenError, match="is a bundle; expected a checkpoint"):
        evaluate([checkpoint_path()], task, reference=demo_bundle("tflite-xnnpack"))
    short = tmp_path / "short.txt"
    short.write_text("too short")
    with pytest.raises(FirstTokenError, match="at least 16 are needed"):
        evaluate([checkpoint_path()], [f"text={short}"])


def test_help_teaches(capfd):
    assert run(["evaluate", "--help"]) == 0
    shown = capfd.readouterr().out
    assert "--tasks text=held_out.txt" in shown and "GSM8K" in shown and "sandbox" not in shown
