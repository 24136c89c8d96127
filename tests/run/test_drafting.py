"""Answers with drafts: token for token those without, greedy and drawn, on both runtimes; and no more calls where drafts do not help."""

import itertools

import numpy as np
import pytest

from firsttoken.backends.runner import Runner
from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path, prompts
from firsttoken.errors import FirstTokenError
from firsttoken.run.drafting import LookupDecoding
from firsttoken.run.generate import Statistics, generate
from firsttoken.run.lookup import Lookup
from firsttoken.run.open import open_runner
from firsttoken.run.sampling import Sampler
from firsttoken.run.turns import Chat
from firsttoken.tokenizer import Tokenizer

BOTH = ["tflite-xnnpack", pytest.param("executorch-xnnpack", marks=pytest.mark.slow)]
REPEATING = "def close(self):\n    self.file.close()\n\ndef open(self):\n    self.file.open()\n\ndef close(self):\n"


@pytest.fixture(scope="module", params=BOTH)
def runner(request, demo_bundle):
    folder = demo_bundle(request.param, 7)
    assert read_manifest(folder).target.draft_tokens == 7
    opened = open_runner(folder, threads=1)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(checkpoint_path())


def answered(runner, tokenizer, prompt, draft, **settings):
    facts = Statistics()
    text = "".join(generate(runner, tokenizer, prompt, statistics=facts, draft=draft, **settings))
    return text, runner.held_tokens.tolist(), facts


def test_greedy_answers_are_the_same_token_for_token(runner, tokenizer):
    calls = tokens = 0
    for prompt in [*(prompt["text"] for prompt in prompts()[:10]), REPEATING, "a a a a a a", "x"]:
        settings = {"max_tokens": 40, "chat": False, "stop_at_end": False}
        text, held, facts = answered(runner, tokenizer, prompt, None, **settings)
        assert facts.calls == 39 and facts.drafts() is None
        with_drafts, held_too, drafted = answered(runner, tokenizer, prompt, "lookup", **settings)
        assert (with_drafts, held_too) == (text, held), prompt
        assert drafted.calls + drafted.accepted_tokens == 39
        calls, tokens = calls + drafted.calls, tokens + 39
    assert calls < tokens, "some drafts were right"


def test_drawn_answers_are_the_same_for_a_seed(runner, tokenizer):
    """So the distribution is, whatever is drafted."""
    found, accepted = set(), 0
    for seed in range(8):
        settings = {"max_tokens": 30, "temperature": 0.6, "seed": seed, "top_p": 0.9, "chat": False}
        text, held, facts = answered(runner, tokenizer, REPEATING, None, **settings)
        with_drafts, held_too, drafted = answered(runner, tokenizer, REPEATING, "lookup", **settings)
        assert (with_drafts, held_too, drafted.stopped) == (text, held, facts.stopped)
        found.add(text)
        accepted += drafted.accepted_tokens
    assert len(found) > 1 and accepted


def test_up_to_the_last_row_of_the_cache(runner, tokenizer):
    prompt = REPEATING * ((runner.cache_length - 120) // len(tokenizer.encode(REPEATING)))
    text, held, facts = answered(runner, tokenizer, prompt, None, max_tokens=400, chat=False, stop_at_end=False)
    again = answered(runner, tokenizer, prompt, "lookup", max_tokens=400, chat=False, stop_at_end=False)
    assert facts.stopped == again[2].stopped == "cache" and len(held) == runner.cache_length
    assert again[:2] == (text, held)
    assert again[2].tokens_per_call > 1.5


def test_a_conversation_is_the_same_and_goes_on_after_it_was_stopped(runner, tokenizer):
    def talk(draft):
        chat, sampler, answers = Chat(runner, tokenizer, draft=draft), Sampler(runner.manifest.tokenizer.vocab_size, 0.5, 3), []
        runner.reset()
        for question in ("Repeat: close the file, close the file", "And again?"):
            answers.append("".join(chat.ask(question, sampler, 24)))
        answers.append(list(itertools.islice(chat.ask("Once more", sampler, 24), 5)))  # whoever asked stops early
        answers.append("".join(chat.ask("And open?", sampler, 24)))
        return answers, runner.held_tokens.tolist()

    assert talk("lookup") == talk(None)


class Random(Runner):
    """Predicts tokens that no text repeats; counts its calls."""

    def __init__(self, manifest):
        super().__init__(manifest)
        self.random, self.draft_tokens, self.checked = np.random.default_rng(5), 7, 0

    def _rows(self, count):
        return self.random.random((count, self.vocab_size)).astype(np.float32)

    def _prefill(self, tokens):
        return self._rows(1)[0]

    def _decode(self, token):
        return self._rows(1)[0]

    def _check_draft(self, tokens):
        self.checked += 1
        return self._rows(len(tokens))


class Wrong(Lookup):
    """Always has a guess, of a token that is never picked."""

    def guess(self, count, least=0):
        return [4001] * count


def test_drafts_that_are_wrong_pause(demo_bundle):
    runner = Random(read_manifest(demo_bundle("tflite-xnnpack")).model_copy(deep=True))
    steps, token = LookupDecoding(runner, Sampler(4000), Wrong()), 3
    for _ in range(300):
        token = steps.after(token)
    assert steps.accepted == 0 and steps.calls == 300
    assert 4 < runner.checked < 0.05 * 300, "each costs about half a call more"


class Seven(Random):
    """Predicts one token for ever."""

    def _rows(self, count):
        logits = np.zeros((count, self.vocab_size), np.float32)
        logits[:, 7] = 1
        return logits


def test_a_pause_ends_where_guesses_come_true(demo_bundle):
    runner, lookup = Seven(read_manifest(demo_bundle("tflite-xnnpack")).model_copy(deep=True)), Wrong()
    steps, token = LookupDecoding(runner, Sampler(4000), lookup), 7
    for _ in range(60):
        token = steps.after(token)
    assert steps._wait > 8, "a long pause"
    before = runner.checked
    lookup.guess = lambda count, least=0: [7] * count
    for _ in range(4):
        token = steps.after(token)
    assert runner.checked == before + 1 and steps.accepted == 1


def test_what_cannot_be_checked_is_refused_with_what_to_do(demo_bundle, tokenizer):
    runner = open_runner(demo_bundle("tflite-xnnpack"), threads=1)
    try:
        with pytest.raises(FirstTokenError, match="no method that checks drafts; export it again with --draft-tokens 7"):
            next(generate(runner, tokenizer, "x", draft="lookup"))
        with pytest.raises(FirstTokenError, match="--draft-tokens 7"):
            Chat(runner, tokenizer, draft="lookup")
        with pytest.raises(FirstTokenError, match="draft is 'guess'; expected lookup"):
            next(generate(runner, tokenizer, "x", draft="guess"))
    finally:
        runner.close()
