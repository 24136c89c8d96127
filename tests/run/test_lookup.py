"""Guesses by what followed last time, against a search through the whole text."""

import numpy as np
import pytest

from firsttoken.run.lookup import Lookup


def searched(text, count, longest=4, shortest=2):
    """The same by going through the text from its end."""
    for size in range(longest, shortest - 1, -1):
        for place in range(len(text) - 1, size - 1, -1):
            if text[place - size : place] == text[-size:]:
                guess = list(text[place:])
                while len(guess) < count:
                    guess.append(guess[len(guess) - (len(text) - place)])
                return guess[:count]
    return []


@pytest.mark.parametrize("seed", range(4))
def test_it_finds_what_a_search_finds(seed):
    random = np.random.default_rng(seed)
    text = random.integers(0, 3, 5).tolist()
    lookup = Lookup()
    lookup.follow(text)
    found = 0
    for token in random.integers(0, 3 + 2 * seed, 400).tolist():
        lookup.add(token)
        text.append(token)
        guess = lookup.guess(7)
        assert guess == searched(text, 7)
        found += bool(guess)
    assert found > 50


def test_the_longest_run_counts_and_of_these_the_last():
    lookup = Lookup()
    lookup.follow([1, 2, 3, 9, 2, 3, 8, 1, 2, 3])
    assert lookup.guess(2) == [9, 2], "three tokens stood before 9, two before 8"
    lookup.follow([1, 2, 3, 9, 2, 3, 8, 1, 2, 3, 7, 1, 2, 3])
    assert lookup.guess(1) == [7]
    assert lookup.guess(1, least=4) == []


def test_a_repetition_goes_on():
    lookup = Lookup()
    lookup.follow([5, 6, 5, 6])
    assert lookup.guess(5) == [5, 6, 5, 6, 5]


def test_another_text_begins_anew():
    lookup = Lookup()
    lookup.follow([1, 2, 3, 1, 2])
    assert lookup.guess(1) == [3]
    lookup.follow([1, 2, 4, 1, 2])
    assert lookup.guess(1) == [4] and lookup.tokens == [1, 2, 4, 1, 2]


def test_a_token_costs_the_same_in_a_long_text():
    """Counted, not timed: what is looked at while one token is added and a guess is made."""
    lookup = Lookup()
    lookup.follow(np.random.default_rng(0).integers(0, 50, 9000).tolist())
    lookup.guess(7)
    before = len(lookup._followed)
    lookup.add(3)
    lookup.guess(7)
    assert len(lookup._followed) <= before + 3 and lookup._indexed == 9001
