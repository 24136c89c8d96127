"""Several prompts at once: token for token what each gets alone, whoever ends first."""

import json

import pytest
import torch

from firsttoken.demo import checkpoint_path, held_out_text
from firsttoken.distill.batched_answers import Answer, answer_all, check_batch
from firsttoken.distill.generate import AnswerSettings, Placing, generate
from firsttoken.distill.models import load_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.run.sampling import Sampler
from firsttoken.run.thinking import ThinkingBudget
from firsttoken.tokenizer import Tokenizer

LENGTHS = (3, 40, 17, 9, 40)


@pytest.fixture(scope="module")
def demo():
    return load_decoder(checkpoint_path()), Tokenizer(checkpoint_path())


def prompts(tokenizer):
    text = held_out_text()
    return [tokenizer.encode(text[n * 900 : n * 900 + 600], begin=False)[:length] for n, length in enumerate(LENGTHS)]


def answered(model, given, stops, most, batch, temperature=0.0, budget=None):
    made = []
    for start in range(0, len(given), batch):
        rows = [Answer(p, Sampler(4096, temperature, start + n), budget and budget()) for n, p in enumerate(given[start : start + batch])]
        answer_all(model, rows, stops, most)
        made += rows
    return [(row.tokens, row.stopped) for row in made]


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_batched_answers_are_those_of_one_by_one_and_of_transformers(demo, temperature):
    model, tokenizer = demo
    given = prompts(tokenizer)
    plain = answered(model, given, frozenset(), 24, 1, temperature)
    stops = frozenset({plain[1][0][3], plain[3][0][10]})  # so that rows end at different times
    alone = answered(model, given, stops, 24, 1, temperature)
    assert len({len(tokens) for tokens, _ in alone}) > 2 and {stopped for _, stopped in alone} >= {"end"}
    for batch in (2, 5):
        assert answered(model, given, stops, 24, batch, temperature) == alone
    if not temperature:
        for prompt, (tokens, _) in zip(given, alone, strict=True):
            made = model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=sorted(stops), pad_token_id=0)[0]
            assert [token for token in made[len(prompt) :].tolist() if token not in stops] == tokens


def test_a_thinking_budget_holds_in_a_batch(demo):
    model, tokenizer = demo
    given = prompts(tokenizer)
    seen = answered(model, given, frozenset(), 12, 1)
    end = seen[0][0][2]

    def budget():
        return ThinkingBudget(end, (11, 12, 13), most=8, least=5)

    alone = answered(model, given, frozenset(), 16, 1, budget=budget)
    assert answered(model, given, frozenset(), 16, 5, budget=budget) == alone
    assert any(tokens[n : n + 3] == [11, 12, 13] for tokens, _ in alone for n in range(10)) and all(end in tokens for tokens, _ in alone)


def test_files_are_the_same_whatever_the_batch_and_go_on_with_another(tmp_path):
    lines = [{"prompt": f"def {'a' * n}(self"} for n in range(1, 8)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = AnswerSettings(max_tokens=8, raw=True)
    generate(checkpoint_path(), tmp_path / "p.jsonl", tmp_path / "one.jsonl", settings)

    def stop(stage, done, total, unit):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(checkpoint_path(), tmp_path / "p.jsonl", tmp_path / "many.jsonl", settings, stop, Placing(batch=3))
    generate(checkpoint_path(), tmp_path / "p.jsonl", tmp_path / "many.jsonl", settings, placing=Placing(batch=2))
    assert (tmp_path / "many.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    with pytest.raises(FirstTokenError, match="was begun with dtype = null, now it is .bfloat16"):
        generate(checkpoint_path(), tmp_path / "p.jsonl", tmp_path / "one.jsonl", settings, placing=Placing(dtype="bfloat16"))
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "x"}) + "\n" + json.dumps({"prompt": "word " * 3000}))
    with pytest.raises(FirstTokenError, match="positions end at 2048"):
        generate(checkpoint_path(), tmp_path / "p.jsonl", tmp_path / "long.jsonl", settings, placing=Placing(batch=2))


def test_a_model_that_padding_would_change_is_refused():
    from families_on_disk import random_model

    with pytest.raises(FirstTokenError, match="--batch 4: lfm2 has layers that are no attention"):
        check_batch(random_model("lfm2"), 4)
    check_batch(random_model("lfm2"), 1)
