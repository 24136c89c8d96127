"""A conversation over one cache: what a turn computes, what it answers, and what happens where the cache has no room."""

import itertools

import numpy as np
import pytest

from firsttoken.bundle.manifest import read_manifest
from firsttoken.conversation import write_conversation
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.run.generate import Statistics
from firsttoken.run.open import open_runner
from firsttoken.run.sampling import Sampler
from firsttoken.run.turns import Chat
from firsttoken.tokenizer import Tokenizer

BOTH = ["tflite-xnnpack", "onnx-cpu", pytest.param("executorch-xnnpack", marks=pytest.mark.slow)]
QUESTIONS = ("What does close do?", "And open?", "Write a test for it.")


@pytest.fixture(params=BOTH)
def runner(request, demo_bundle):
    opened = open_runner(demo_bundle(request.param), threads=1)
    yield opened
    opened.close()


@pytest.fixture
def tokenizer():
    return Tokenizer(checkpoint_path())


def greedy(runner):
    return Sampler(runner.manifest.tokenizer.vocab_size)


def answers(chat, count=len(QUESTIONS), max_tokens=12):
    """The texts, and the statistics of every turn."""
    found = []
    for question in QUESTIONS[:count]:
        facts = Statistics()
        found.append(("".join(chat.ask(question, greedy(chat.runner), max_tokens, facts)), facts))
    return found


def test_a_turn_computes_what_is_new_and_answers_as_from_the_start(runner, tokenizer):
    chat = Chat(runner, tokenizer, "Answer briefly.")
    found = answers(chat)
    assert chat.turns == 3 and chat.messages[0] == {"role": "system", "content": "Answer briefly."}
    said = []
    for (text, facts), question in zip(found, QUESTIONS, strict=True):
        messages = [chat.messages[0], *said, {"role": "user", "content": question}]
        tokens = tokenizer.encode(write_conversation(runner.manifest.chat.conversation, messages), begin=False)
        assert facts.prompt_tokens == len(tokens)
        said += [messages[-1], {"role": "assistant", "content": text}]
    assert found[0][1].kept_tokens == 0
    for (_, before), (_, facts) in itertools.pairwise(found):
        assert before.prompt_tokens <= facts.kept_tokens < facts.prompt_tokens, "the earlier question is in the cache, and its answer"
    runner.reset()
    last = tokenizer.encode(write_conversation(runner.manifest.chat.conversation, chat.messages[:-1]), begin=False)
    assert tokenizer.decode([int(runner.prefill(last).argmax())]).strip() in found[-1][0]


def test_an_answer_that_is_left_early_is_part_of_the_conversation(runner, tokenizer):
    chat = Chat(runner, tokenizer)
    pieces = chat.ask(QUESTIONS[0], greedy(runner), 20)
    first = next(pieces)
    pieces.close()
    assert chat.messages[-1] == {"role": "assistant", "content": first}
    facts = Statistics()
    assert "".join(chat.ask(QUESTIONS[1], greedy(runner), 5, facts)) and facts.kept_tokens > 0


@pytest.fixture
def short(demo_bundle, tokenizer):
    """A function to a chat whose cache holds as many tokens as it is told."""
    opened = open_runner(demo_bundle("tflite-xnnpack"), threads=1)

    def make(length, **options):
        opened.cache_length = length
        return Chat(opened, tokenizer, **options)

    yield make
    opened.close()


def test_a_full_cache_stops_the_conversation_and_leaves_it_as_it_was(short):
    chat = short(80)
    answers(chat, 2, 12)
    before = list(chat.messages)
    with pytest.raises(
        FirstTokenError, match=r"the conversation has \d+ tokens with this question, and the cache holds 80; begin anew, .*--when-full drop"
    ):
        list(chat.ask(QUESTIONS[2] * 2, greedy(chat.runner), 12))
    assert chat.messages == before and chat.dropped == 0
    facts = Statistics()
    "".join(chat.ask("Go", greedy(chat.runner), 300, facts))
    assert facts.stopped == "cache" and chat.runner.position == 80


def test_the_oldest_turns_are_dropped_and_the_system_message_stays(short):
    chat = short(100, system="Be brief.", when_full="drop")
    for number in range(6):
        question, facts = f"{QUESTIONS[number % 3]} ({number})", Statistics()
        "".join(chat.ask(question, greedy(chat.runner), 12, facts))
        assert facts.stopped != "cache" and chat.messages[-2]["content"] == question
    assert chat.dropped > 0 and chat.turns + chat.dropped == 6
    assert [message["role"] for message in chat.messages] == ["system", *["user", "assistant"] * chat.turns]
    with pytest.raises(FirstTokenError, match=r"the question has \d+ tokens with the template, and the cache holds 100; shorten it"):
        list(chat.ask("word " * 200, greedy(chat.runner), 12))


def test_what_cannot_hold_a_conversation(short, demo_bundle):
    chat = short(1280)
    facts = read_manifest(demo_bundle("tflite-xnnpack")).model_copy(deep=True)
    chat.runner.manifest = facts
    facts.chat.conversation, facts.chat.conversation_refused = None, "it counts its messages"
    with pytest.raises(
        FirstTokenError,
        match=r"cannot be written for several turns \(it counts its messages\); ask single questions with `firsttoken generate`",
    ):
        Chat(chat.runner, chat.tokenizer)
    facts.chat = None
    with pytest.raises(FirstTokenError, match="has no chat template, so there is no conversation"):
        Chat(chat.runner, chat.tokenizer)
    with pytest.raises(FirstTokenError, match="max_tokens is 0"):
        list(chat.ask("x", greedy(chat.runner), 0))


def test_a_system_message_that_the_template_does_not_take(short):
    chat = short(1280)
    facts = chat.runner.manifest = chat.runner.manifest.model_copy(deep=True)
    facts.chat.conversation.open_system = None
    with pytest.raises(FirstTokenError, match="takes no system message; leave it out"):
        Chat(chat.runner, chat.tokenizer, "Be brief.")


def test_held_arrays_are_exact(runner):
    tokens = np.random.default_rng(2).integers(300, 4000, 70)
    runner.reset()
    runner.prefill(tokens[:50])
    for token in tokens[50:]:
        runner.decode(int(token))
    arrays, held = runner.held_arrays(), runner.held_tokens
    assert held.tolist() == tokens.tolist()
    wanted = [runner.decode(9).copy(), runner.prefill([5, 6, 7]).copy()]
    runner.reset()
    runner.prefill([1, 2, 3])
    runner.hold_again(held, arrays)
    assert runner.position == 70 and runner.keep_prefix([*held, 9]) == 70
    assert all(np.array_equal(one, other) for one, other in zip([runner.decode(9).copy(), runner.prefill([5, 6, 7])], wanted, strict=True))
    name = next(name for name in arrays if name.startswith("key"))
    for change, message in (
        ({name: arrays[name][:, :, :-1]}, f"'{name}' is .*; expected"),
        ({name: arrays[name].astype(np.float64)}, "is float64"),
        ({name: np.full_like(arrays[name], np.nan)}, "holds NaN or infinite values"),
        ({"key.99": arrays[name]}, "'key.99' is .*; expected none"),
        ({"written": np.array([3])}, "expected one number from 70" if "written" in arrays else "expected none"),
    ):
        with pytest.raises(FirstTokenError, match=message):
            runner.hold_again(held, arrays | change)
        assert runner.position == 0, "a refused cache leaves an empty one"
