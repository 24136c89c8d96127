"""Streaming completions: the stops, the statistics, the prompt; with a runner made up here and with the demo bundles."""

import numpy as np
import pytest

from firsttoken.backends.runner import Runner
from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path, prompts
from firsttoken.errors import FirstTokenError
from firsttoken.run.generate import Statistics, encode_prompt, generate
from firsttoken.run.open import open_runner
from firsttoken.tokenizer import Tokenizer, open_tokenizer

BOTH = ["tflite-xnnpack", "onnx-cpu", pytest.param("executorch-xnnpack", marks=pytest.mark.slow)]


class Scripted(Runner):
    """Predicts a fixed list of tokens, one a call, then the last one for ever."""

    def __init__(self, manifest, script):
        super().__init__(manifest)
        self.script, self.calls = list(script), []

    def _next(self):
        logits = np.zeros(self.vocab_size, np.float32)
        logits[self.script[min(len(self.calls), len(self.script)) - 1]] = 9
        return logits

    def _prefill(self, tokens):
        self.calls.append(list(tokens))
        return self._next()

    def _decode(self, token):
        self.calls.append(token)
        return self._next()


@pytest.fixture
def scripted(demo_bundle):
    """Returns a function from a list of tokens to a runner that predicts them, and the tokenizer."""
    manifest = read_manifest(demo_bundle("tflite-xnnpack")).model_copy(deep=True)
    return lambda script: Scripted(manifest, script), Tokenizer(checkpoint_path())


def test_stops_at_an_end_token_which_is_not_shown(scripted):
    make, tokenizer = scripted
    words = tokenizer.encode("Close the file")
    runner, facts = make([*words, 4095]), Statistics()
    assert "".join(generate(runner, tokenizer, "x", statistics=facts)) == "Close the file"
    assert facts.stopped == "end" and facts.new_tokens == len(words)
    assert runner.calls[1:] == words, "each token is fed back once"


def test_stops_at_the_asked_number(scripted):
    make, tokenizer = scripted
    facts = Statistics()
    assert "".join(generate(make([65]), tokenizer, "x", max_tokens=5, statistics=facts)) == tokenizer.decode([65] * 5)
    assert facts.stopped == "length" and facts.new_tokens == 5


def test_stops_with_a_full_cache_and_says_so(scripted):
    make, tokenizer = scripted
    runner, facts = make([65]), Statistics()
    runner.cache_length = 20
    list(generate(runner, tokenizer, "x", max_tokens=1000, chat=False, statistics=facts))
    assert facts.stopped == "cache" and runner.position == 20
    assert facts.prompt_tokens + facts.new_tokens == 21, "the last token needs no place in the cache"


def test_an_answer_that_ends_at_once(scripted):
    make, tokenizer = scripted
    facts = Statistics()
    assert list(generate(make([4095]), tokenizer, "x", statistics=facts)) == []
    assert facts.new_tokens == 0 and facts.stopped == "end" and facts.first_token > 0 and facts.tokens_per_second == 0


def test_padded_tokens_are_not_generated(scripted):
    make, tokenizer = scripted
    runner = make([4000])
    runner.manifest.tokenizer.vocab_size = 3000
    facts = Statistics()
    list(generate(runner, tokenizer, "x", max_tokens=3, statistics=facts))
    assert all(call < 3000 for call in runner.calls[1:])


def test_characters_come_whole(scripted):
    make, tokenizer = scripted
    tokens = tokenizer.encode("é日👩")
    pieces = list(generate(make([*tokens, 4095]), tokenizer, "x"))
    assert "".join(pieces) == "é日👩" and all("\ufffd" not in piece for piece in pieces)


def test_what_a_caller_does_with_the_text_is_not_counted(scripted):
    import time

    make, tokenizer = scripted
    facts = Statistics()
    for _ in generate(make([65]), tokenizer, "x", max_tokens=5, statistics=facts):
        time.sleep(0.05)
    assert facts.decode < 0.1e9


def test_the_stages_are_all_of_the_first_token_and_each_token_is_observed(scripted):
    make, tokenizer = scripted
    facts, seen = Statistics(), []
    list(
        generate(
            make([65]), tokenizer, "x", max_tokens=4, statistics=facts, observe=lambda now, spent: seen.append((now.new_tokens, spent))
        )
    )
    assert [number for number, _ in seen] == [1, 2, 3, 4]
    assert seen[0][1] == facts.tokenize + facts.prefill + facts.sample + facts.detokenize == round(facts.first_token * 1e9)
    assert sum(spent for _, spent in seen[1:]) == facts.decode
    assert min(facts.tokenize, facts.prefill, facts.sample, facts.detokenize) > 0


def test_measuring_goes_on_past_an_end_token(scripted):
    make, tokenizer = scripted
    facts = Statistics()
    list(generate(make([4095]), tokenizer, "x", max_tokens=5, statistics=facts, stop_at_end=False))
    assert facts.new_tokens == 5 and facts.stopped == "length"


def test_the_prompt_is_a_chat_turn_where_there_is_a_template(scripted):
    make, tokenizer = scripted
    for chat, text in (
        (None, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"),
        (True, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"),
        (False, "hi"),
    ):
        runner = make([4095])
        list(generate(runner, tokenizer, "hi", chat=chat))
        assert runner.calls[0] == tokenizer.encode(text)
    runner.manifest.chat = None
    list(generate(runner, tokenizer, "hi"))
    assert runner.calls[-1] == tokenizer.encode("hi")
    with pytest.raises(FirstTokenError, match="no chat template"):
        next(generate(runner, tokenizer, "hi", chat=True))


def test_prompts_that_cannot_be(scripted):
    make, tokenizer = scripted
    with pytest.raises(FirstTokenError, match="empty"):
        next(generate(make([65]), tokenizer, "", chat=False))
    with pytest.raises(FirstTokenError, match="do not fit the cache"):
        next(generate(make([65]), tokenizer, "word " * 5000))
    with pytest.raises(FirstTokenError, match="max_tokens"):
        next(generate(make([65]), tokenizer, "x", max_tokens=0))


@pytest.fixture(params=BOTH)
def running(request, demo_bundle):
    folder = demo_bundle(request.param)
    runner = open_runner(folder, 2)
    yield runner, open_tokenizer(folder, read_manifest(folder))
    runner.close()


def test_the_demo_answers_the_same_each_time(running):
    runner, tokenizer = running
    prompt = prompts()[0]
    answers = ["".join(generate(runner, tokenizer, prompt["text"], 48, chat=prompt["chat"])) for _ in range(2)]
    assert answers[0] == answers[1] and len(answers[0]) > 10
    drawn = ["".join(generate(runner, tokenizer, prompt["text"], 48, temperature=1.5, seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_greedy_decoding_is_what_transformers_decodes(running):
    """With every weight quantized ties may break otherwise, so only where the reference is sure of its choice."""
    import torch
    from transformers import AutoModelForCausalLM

    runner, tokenizer = running
    model = AutoModelForCausalLM.from_pretrained(checkpoint_path(), dtype=torch.float32)
    tokens = encode_prompt(tokenizer, prompts()[0]["text"], runner.manifest.chat)
    runner.reset()
    logits = runner.prefill(tokens)
    agreed = 0
    for _ in range(40):
        with torch.no_grad():
            expected = model(torch.tensor([tokens])).logits[0, -1]
        best, second = expected.topk(2).values
        token = int(logits.argmax())
        if best - second > 0.5:
            assert token == int(expected.argmax())
            agreed += 1
        tokens.append(token)
        logits = runner.decode(token)
    assert agreed >= 10
