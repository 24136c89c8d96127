"""Budget forcing: how long a reasoning model thinks, decided from outside (s1, arXiv:2501.19393).

At the cap the end-of-thinking token is forced; before the minimum, or the first ``ignore`` times, the model's own
end-of-thinking token is taken back and "Wait" goes in its place.
"""

from dataclasses import dataclass, field

from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer


@dataclass
class ThinkingBudget:
    """``most`` and ``least`` count thinking tokens; ``end`` is the token that ends thinking, ``wait`` what replaces it."""

    end: int
    wait: tuple[int, ...]
    most: int | None = None
    least: int = 0
    ignore: int = 0
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
    return ThinkingBudget(tokens[0], replacement, most, least, ignore)
