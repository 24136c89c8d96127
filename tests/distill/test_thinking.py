"""Budget forcing: caps, minimums, ignored ends, and what the model may not do to get around them."""

import pytest

from firsttoken.demo import checkpoint_path
from firsttoken.distill.thinking import ThinkingBudget, make_budget
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer

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
