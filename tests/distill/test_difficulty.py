"""Difficulty as a model sees it, and samples left out because a model solves them."""

import json

import pytest
import torch

from firsttoken.cli import run
from firsttoken.demo import checkpoint_path
from firsttoken.distill import difficulty as module
from firsttoken.distill.difficulty import add_difficulty, solved_lines
from firsttoken.distill.select import select_file
from firsttoken.errors import FirstTokenError

POOL = [
    {"text": "import os\nimport sys\n\n\ndef main():\n    return 0\n"},
    {"text": "zq xv kk jw qq 93 vv lk jj wq pz"},
    {"prompt": "What is os?", "answer": "A module.", "domain": "chat"},
]


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_difficulty_is_the_cross_entropy_of_what_would_be_learned(tmp_path):
    from firsttoken.distill.models import load_decoder
    from firsttoken.tokenizer import Tokenizer

    assert (
        run(
            [
                "distill",
                "difficulty",
                str(write(tmp_path / "pool.jsonl", POOL)),
                "-o",
                str(tmp_path / "rated.jsonl"),
                "--model",
                str(checkpoint_path()),
            ]
        )
        == 0
    )
    rated = read(tmp_path / "rated.jsonl")
    assert [{k: v for k, v in line.items() if k != "difficulty"} for line in rated] == POOL
    assert rated[1]["difficulty"] > rated[0]["difficulty"]
    tokens = torch.tensor([Tokenizer(checkpoint_path()).encode(POOL[0]["text"])])
    with torch.no_grad():
        logits = load_decoder(checkpoint_path())(input_ids=tokens).logits[0, :-1]
    assert rated[0]["difficulty"] == pytest.approx(torch.nn.functional.cross_entropy(logits, tokens[0, 1:]).item(), rel=1e-4)
    chosen = select_file(tmp_path / "rated.jsonl", tmp_path / "chosen.jsonl", 5, easiest=0.4)
    assert POOL[0]["text"] not in [line.get("text") for line in chosen.kept] and len(chosen.kept) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["chosen.jsonl", "pool.jsonl", "rated.jsonl"]


def test_of_a_chat_only_the_answer_counts(tmp_path):
    answers = [
        {"prompt": "Tell me about asyncio and its event loop in detail, please.", "answer": answer}
        for answer in ("It runs tasks.", "It runs tasks.")
    ]
    answers[1]["prompt"] = "Hm"
    rated = add_difficulty(write(tmp_path / "pool.jsonl", answers), tmp_path / "out.jsonl", checkpoint_path())
    first, second = (line["difficulty"] for line in read(tmp_path / "out.jsonl"))
    assert rated == 2 and first != second and 0 < first < 20
    with pytest.raises(FirstTokenError, match="line 1: nothing in its first 4 tokens would be learned"):
        add_difficulty(tmp_path / "pool.jsonl", tmp_path / "none.jsonl", checkpoint_path(), length=4)


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    pool, real, calls = write(tmp_path / "pool.jsonl", POOL), module.cross_entropy_of, []

    def dies(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "cross_entropy_of", dies)
    with pytest.raises(KeyboardInterrupt):
        add_difficulty(pool, tmp_path / "out.jsonl", checkpoint_path())
    assert not (tmp_path / "out.jsonl").exists()
    with open(tmp_path / "out.jsonl.partial", "a") as stream:
        stream.write('{"key": "half')
    add_difficulty(pool, tmp_path / "out.jsonl", checkpoint_path())
    assert len(calls) == 4  # the two that were done are not asked for again
    monkeypatch.setattr(module, "cross_entropy_of", real)
    add_difficulty(pool, tmp_path / "whole.jsonl", checkpoint_path())
    assert read(tmp_path / "out.jsonl") == read(tmp_path / "whole.jsonl")


def test_what_a_model_solves_is_left_out(tmp_path, capfd):
    pool = write(tmp_path / "pool.jsonl", [{"prompt": f"{n} + 1?", "answer": "thought", "reference": str(n + 1)} for n in range(4)])
    answers = write(
        tmp_path / "answers.jsonl", [{"prompt": f"{n} + 1?", "answer": f"so \\boxed{{{n + 1 if n < 2 else 0}}}"} for n in range(4)]
    )
    assert solved_lines(pool, [answers]) == {1, 2}
    assert run(["distill", "select", str(pool), "-o", str(tmp_path / "chosen.jsonl"), "--solved-by", str(answers)]) == 0
    assert "2 left out: solved by a model" in capfd.readouterr().out
    assert {line["prompt"] for line in read(tmp_path / "chosen.jsonl")} == {"2 + 1?", "3 + 1?"}
    other = write(tmp_path / "other.jsonl", [{"prompt": "x", "answer": "1"}])
    with pytest.raises(FirstTokenError, match="answers no prompt of"):
        solved_lines(pool, [other])
