"""Budget forcing: how long a reasoning model thinks, decided from outside (s1, arXiv:2501.19393).

At the cap the end-of-thinking token is forced; before the minimum, or the first ``ignore`` times, the model's own
end-of-thinking token is taken back and "Wait" goes in its place.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from firsttoken.backends.runner import Runner
from firsttoken.bundle.chat_facts import Chat
from firsttoken.errors import FirstTokenError
from firsttoken.run.drafting import Decoding
from firsttoken.run.sampling import Sampler
from firsttoken.tokenizer import Tokenizer

END = "</think>"


@dataclass(frozen=True)
class Thinking:
    """What is asked of a budget: thinking ends after ``most`` tokens, not before ``least``, and its first ``ignore`` ends are not taken.

    ``end`` is the token that ends thinking, as text, and ``wait`` what goes in the place of an end that is not taken. The answer begins as
    thinking, as templates of reasoners write it.
    """

    most: int | None = None
    least: int = 0
    ignore: int = 0
    end: str = END
    wait: str = "Wait"

    def budget(self, tokenizer: Tokenizer, chat: Chat | None = None) -> "ThinkingBudget":
        """Makes the budget of one answer. Raises `FirstTokenError` for bounds that cannot be, and for a ``chat`` whose template ends thinking itself."""
        for name, value in (("most", 0 if self.most is None else self.most), ("least", self.least), ("ignore", self.ignore)):
            if value < 0:
                raise FirstTokenError(f"{name} thinking is {value}; expected 0 or a positive whole number")
        if chat is not None and self.end in chat.suffix.text:
            raise FirstTokenError(
                f"the chat template writes {self.end!r} before the answer, so there is no thinking to bound; leave the budget out"
            )
        return make_budget(tokenizer, self.end, self.wait, self.most, self.least, self.ignore)


@dataclass
class ThinkingBudget:
    """``most`` and ``least`` count thinking tokens; ``end`` is the token that ends thinking, ``wait`` what replaces it."""

    end: int
    wait: tuple[int, ...]
    most: int | None = None
    least: int = 0
    ignore: int = 0
    shown: Mapping[int, str] = field(default_factory=dict)  # the text of ``end``, also where it is a special token
    thought: int = field(default=0, init=False)
    ignored: int = field(default=0, init=False)
    over: bool = field(default=False, init=False)

    def next(self, sampled: int, stops: frozenset[int] = frozenset()) -> list[int]:
        """Returns the tokens that take the place of the one the model chose; usually that one alone.

        A stop token while thinking counts as an end of thinking: the model must not leave before its budget either.
        """
        if self.over:
            return [sampled]
        full = self.most is not None and self.thought >= self.most
        leaving = sampled == self.end or sampled in stops
        if leaving and not full and (self.thought < self.least or self.ignored < self.ignore):
            self.ignored += 1
            allowed = self.wait if self.most is None else self.wait[: self.most - self.thought]
            self.thought += len(allowed)
            return list(allowed)
        if full or leaving:
            self.over = True
            return [self.end] if sampled in stops or full else [sampled]
        self.thought += 1
        return [sampled]


def make_budget(tokenizer: Tokenizer, end: str, wait: str, most: int | None, least: int, ignore: int) -> ThinkingBudget:
    """Makes a budget from text. Raises `FirstTokenError` where ``end`` is not one token or the bounds contradict."""
    if most is not None and least > most:
        raise FirstTokenError(f"--min-thinking {least} is more than --max-thinking {most}")
    tokens = tokenizer.encode(end, begin=False)
    if len(tokens) != 1:
        raise FirstTokenError(
            f"--thinking-end {end!r} is {len(tokens)} tokens in this tokenizer; expected one token, such as </think> of the DeepSeek-R1 family"
        )
    replacement = tuple(tokenizer.encode(wait, begin=False))
    if not replacement:
        raise FirstTokenError("--wait is empty; expected a word to go on with, such as Wait")
    return ThinkingBudget(tokens[0], replacement, most, least, ignore, {tokens[0]: end})


class BudgetedDecoding(Decoding):
    """The next token where a budget has a word in it: tokens that it forces go through the model like any other, and nothing is drawn for them."""

    def __init__(self, runner: Runner, sampler: Sampler, budget: ThinkingBudget, stops: frozenset[int]) -> None:
        super().__init__(runner, sampler)
        self.budget, self.stops = budget, stops
        self._forced: deque[int] = deque()

    def first(self, logits: np.ndarray) -> int:
        """The first token, from the prompt's logits."""
        given = self.budget.next(self.sampler.pick(logits), self.stops)
        if not given:  # it had no room for the replacement: thinking ends here
            given = self.budget.next(self.budget.end)
        self._forced.extend(given[1:])
        return given[0]

    def after(self, token: int) -> int:
        self.calls += 1
        logits = self.runner.decode(token)
        return self._forced.popleft() if self._forced else self.first(logits)
