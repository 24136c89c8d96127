"""Teacher-written answers: the model's own, resumed exactly, and refused when something changed."""

import json

import pytest
import torch

from firsttoken.distill.generate import AnswerSettings, generate
from firsttoken.distill.models import load_decoder
from firsttoken.distill.records import read_records
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"Explain module {name}", "domain": "code"}) + "\n" for name in ("json", "math", "random", "csv")),
        encoding="utf-8",
    )
    return path


def answers(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_greedy_answers_are_those_of_transformers(tiny_model, prompts, tmp_path):
    generate(tiny_model, prompts, tmp_path / "a.jsonl", AnswerSettings(max_tokens=12))
    tokenizer, model = Tokenizer(tiny_model), load_decoder(tiny_model)
    for line in answers(tmp_path / "a.jsonl"):
        start = tokenizer.encode(f"<|im_start|>user\n{line['prompt']}<|im_end|>\n<|im_start|>assistant\n", begin=False)
        with torch.no_grad():
            made = model.generate(
                torch.tensor([start]), max_new_tokens=12, do_sample=False, eos_token_id=tokenizer.end_tokens(), pad_token_id=0
            )[0, len(start) :].tolist()
        wanted = [token for token in made if token not in tokenizer.end_tokens()]
        assert line["answer"] == tokenizer.decode(wanted) and line["tokens"] == len(wanted)
        assert line["domain"] == "code" and line["stopped"] in ("end", "length")
    documents = list(read_records(tmp_path / "a.jsonl", "d"))  # training data as it is
    assert [d.messages[0]["content"] for d in documents] == [line["prompt"] for line in answers(tmp_path / "a.jsonl")]


def test_private_tests_are_not_written_into_training_data(tiny_model, tmp_path):
    line = {"prompt": "Double it.", "question_id": "7", "private_test_cases": "eJxrYJyqxwMABRABpQ=="}
    (tmp_path / "code.jsonl").write_text(json.dumps(line) + "\n")
    generate(tiny_model, tmp_path / "code.jsonl", tmp_path / "a.jsonl", AnswerSettings(max_tokens=2))
    [written] = answers(tmp_path / "a.jsonl")
    assert "private_test_cases" not in written and written["question_id"] == "7" and "answer" in written


def test_an_interrupted_run_ends_like_an_uninterrupted_one(tiny_model, prompts, tmp_path):
    settings = AnswerSettings(max_tokens=10, temperature=0.8, seed=5)
    generate(tiny_model, prompts, tmp_path / "whole.jsonl", settings)

    def stop(stage, done, total, unit):
        if done == 2:
            raise KeyboardInterrupt

    output = tmp_path / "parts.jsonl"
    with pytest.raises(KeyboardInterrupt):
        generate(tiny_model, prompts, output, settings, stop)
    assert len(answers(output)) == 2
    with open(output, "a", encoding="utf-8") as stream:
        stream.write('{"prompt": "half a li')  # killed while writing
    seen = []
    generate(tiny_model, prompts, output, settings, lambda stage, done, total, unit: seen.append(done))
    assert seen == [3, 4] and output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    with pytest.raises(FirstTokenError, match="was begun with settings.seed = 5, now it is 6"):
        generate(tiny_model, prompts, output, AnswerSettings(max_tokens=10, temperature=0.8, seed=6))


def test_a_thinking_budget_is_kept(tiny_model, prompts, tmp_path):
    settings = AnswerSettings(max_tokens=30, thinking_end="<|im_start|>", max_thinking=5)
    generate(tiny_model, prompts, tmp_path / "a.jsonl", settings)
    for line in answers(tmp_path / "a.jsonl"):
        assert line["thinking_tokens"] <= 5 and line["answer"].count("<|im_start|>") >= 1
    with pytest.raises(FirstTokenError, match="needs --thinking-end"):
        generate(tiny_model, prompts, tmp_path / "b.jsonl", AnswerSettings(max_thinking=5))


def test_bad_input_is_named(tiny_model, prompts, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "a"}\n{"question": "b"}\n')
    with pytest.raises(FirstTokenError, match='bad.jsonl, line 2: expected a JSON object with "prompt"'):
        generate(tiny_model, bad, tmp_path / "x.jsonl")
    (tmp_path / "mine.jsonl").write_text("precious")
    with pytest.raises(FirstTokenError, match="exists, and not from this command"):
        generate(tiny_model, prompts, tmp_path / "mine.jsonl")
    assert (tmp_path / "mine.jsonl").read_text() == "precious"
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"prompt": "word " * 3000}))
    with pytest.raises(FirstTokenError, match="positions end at 2048"):
        generate(tiny_model, long, tmp_path / "y.jsonl")
