"""Budget forcing: caps, minimums, ignored ends, and what the model may not do to get around them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from firsttoken.cli import run
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.evaluate.subject import Subject
from firsttoken.run.generate import Statistics, generate
from firsttoken.run.thinking import Thinking, ThinkingBudget, make_budget
from firsttoken.tokenizer import TextStream, Tokenizer

END, WAIT, STOP = 99, (7, 8), frozenset({50})


def play(budget, sampled):
    return [budget.next(token, STOP) for token in sampled]


def test_without_bounds_nothing_changes():
    assert play(ThinkingBudget(END, WAIT), [1, 2, END, 3, 50]) == [[1], [2], [END], [3], [50]]


def test_at_the_cap_the_end_is_forced():
    budget = ThinkingBudget(END, WAIT, most=2)
    assert play(budget, [1, 2, 3, 4, 5]) == [[1], [2], [END], [4], [5]]
    assert budget.over and budget.thought == 2


def test_an_early_end_is_replaced_by_wait():
    budget = ThinkingBudget(END, WAIT, least=4)
    assert play(budget, [1, END, END, END, 6]) == [[1], [7, 8], [7, 8], [END], [6]]
    assert budget.ignored == 2 and budget.thought == 5


def test_the_end_is_ignored_so_many_times():
    assert play(ThinkingBudget(END, WAIT, ignore=1), [END, 1, END, 2]) == [[7, 8], [1], [END], [2]]


def test_the_replacement_never_breaks_the_cap():
    budget = ThinkingBudget(END, WAIT, most=2, ignore=5)
    assert play(budget, [1, END, 3]) == [[1], [7], [END]]
    assert budget.thought == 2


def test_stopping_altogether_is_not_a_way_out():
    assert play(ThinkingBudget(END, WAIT, least=2), [50, 50, 1]) == [[7, 8], [END], [1]]


def test_wrong_budgets_are_refused():
    tokenizer = Tokenizer(checkpoint_path())
    assert make_budget(tokenizer, "<|im_start|>", "Wait", None, 0, 0).end == 4094
    with pytest.raises(FirstTokenError, match="'</think>' is .* tokens"):
        make_budget(tokenizer, "</think>", "Wait", None, 0, 0)
    with pytest.raises(FirstTokenError, match="--min-thinking 5 is more than --max-thinking 3"):
        make_budget(tokenizer, "<|im_start|>", "Wait", 3, 5, 0)
    with pytest.raises(FirstTokenError, match="--wait is empty"):
        make_budget(tokenizer, "<|im_start|>", "", None, 0, 0)


PROMPT = 'def read(self, size=-1):\n    """Read'


@pytest.fixture(scope="module")
def subject():
    subject = Subject(checkpoint_path())
    yield subject
    subject.close()


def answer(subject, thinking, max_tokens=24, **more):
    facts = Statistics()
    text = "".join(generate(subject.runner, subject.tokenizer, PROMPT, max_tokens, chat=False, statistics=facts, thinking=thinking, stop_at_end=False, **more))  # fmt: skip
    return text, facts


@pytest.fixture(scope="module")
def common(subject):
    """A token that the model soon writes by itself, standing for the end of thinking, and the plain answer's tokens."""
    text, _ = answer(subject, None)
    tokens = subject.tokenizer.encode(text, begin=False)
    place = next(n for n in range(3, len(tokens)) if tokens[n] not in tokens[:n] and len(subject.tokenizer.encode(subject.tokenizer.decode([tokens[n]]), begin=False)) == 1)  # fmt: skip
    return subject.tokenizer.decode([tokens[place]]), tokens, place


@pytest.mark.parametrize("bounds", [{"most": 2}, {"most": 0}, {"least": 12}, {"ignore": 1}, {"ignore": 1, "most": 8}])
def test_what_is_not_forced_is_what_transformers_chooses(subject, common, bounds):
    """Every token of a bounded answer is one that the budget may force there, or the most likely one after all before it."""
    from firsttoken.distill.models import load_decoder

    end, _, natural = common
    [end_token], wait = subject.tokenizer.encode(end, begin=False), subject.tokenizer.encode(" Wait", begin=False)
    text, facts = answer(subject, Thinking(end=end, wait=" Wait", **bounds))
    before = subject.tokenizer.encode(PROMPT)
    tokens = subject.tokenizer.encode(text, begin=False)
    assert len(tokens) == facts.new_tokens == 24, "the text is the tokens' text"
    with torch.no_grad():
        logits = load_decoder(checkpoint_path())(input_ids=torch.tensor([before + tokens])).logits[0].numpy()
    chosen = logits[len(before) - 1 : -1].argmax(-1)
    forced = {n for n, token in enumerate(tokens) if token != chosen[n]}
    if bounds.get("most", 99) < natural:
        assert forced == {bounds["most"]} and tokens[bounds["most"]] == end_token
    else:
        assert forced and all(tokens[n] in (*wait, end_token) for n in forced) and tokens[natural : natural + len(wait)] == wait
        assert facts.ends_ignored >= 1 and end_token not in tokens[: max(natural + 1, bounds.get("least", 0))]
    assert facts.thinking_tokens == (tokens.index(end_token) if end_token in tokens else 24)


def test_bounds_that_nothing_meets_change_nothing(subject, common):
    end, tokens, _ = common
    plain, _ = answer(subject, None)
    assert answer(subject, Thinking(most=1000, end=end))[0] == plain == subject.tokenizer.decode(tokens)


@pytest.mark.parametrize("thinking,said", [
    (Thinking(most=-1), "most thinking is -1; expected 0"),
    (Thinking(most=1, least=2), "--min-thinking 2 is more than --max-thinking 1"),
    (Thinking(most=1), "'</think>' is . tokens in this tokenizer; expected one token"),
])  # fmt: skip
def test_bounds_that_cannot_be(subject, thinking, said):
    with pytest.raises(FirstTokenError, match=said):
        answer(subject, thinking)


def test_a_template_that_ends_thinking_and_drafts_are_refused(subject):
    chat = SimpleNamespace(suffix=SimpleNamespace(text="<|im_start|>assistant\n<think>\n\n</think>\n\n"))
    with pytest.raises(FirstTokenError, match="the chat template writes '</think>' before the answer"):
        Thinking(most=5).budget(subject.tokenizer, chat)


def test_a_bundle_is_bounded_on_the_command_line(demo_bundle, common, capfd):
    end, _, _ = common
    bundle = str(demo_bundle("tflite-xnnpack"))
    command = ["generate", bundle, "--prompt", PROMPT, "--raw", "-n", "8", "--max-thinking", "2"]
    assert run([*command, "--thinking-end", end]) == 0
    shown = capfd.readouterr()
    assert end in shown.out and "2 of them thinking" in shown.err
    assert run(command) == 2
    error = capfd.readouterr().err
    assert "expected one token" in error and error.count("\n") == 1


def test_a_special_end_is_shown(subject):
    [(text, token)] = list(subject.tokenizer.special.items())[:1]
    stream = TextStream(subject.tokenizer, {token: text})
    words = subject.tokenizer.encode("Read it", begin=False)
    assert "".join([*map(stream.add, [*words, token, *words]), stream.finish()]) == f"Read it{text}Read it"
    assert np.size(words)
