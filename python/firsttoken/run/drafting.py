"""Decoding with drafts: several tokens out of one call where what is said was said before, and the same tokens as without.

Exactness: the logits of every checked row are those of decoding (the bundle's proof says whether to the bit), and each token is picked from
them as if it had been decoded, with the same random number; a draft counts only as far as the picked tokens are the drafted ones. So it
changes no token, also above temperature 0, and the distribution neither.
"""

from typing import Literal

import numpy as np

from firsttoken.backends.runner import Runner
from firsttoken.errors import FirstTokenError
from firsttoken.run.lookup import Lookup
from firsttoken.run.sampling import Sampler

Draft = Literal["lookup"]
DRAFTS: tuple[str, ...] = ("lookup",)
LONGEST_PAUSE = 64  # tokens without a draft, after drafts that were all wrong
FORESEEN = 2  # guesses in a row that turn out right without being checked, which end such a pause
WORTH = 1.0  # drafted tokens that are right for one draft on average, below which drafts pause
PATIENCE = 0.5  # how much of the average an older draft keeps with each newer one


def no_drafts() -> str:
    """What to say of a bundle that cannot check drafts."""
    return "has no method that checks drafts; export it again with --draft-tokens 7 (.tflite, .pte), or leave out --draft"


def check_draft(runner: Runner, draft: str | None) -> None:
    """Raises `FirstTokenError` for a way of drafting that there is not, or a bundle that cannot check drafts."""
    if draft is None:
        return
    if draft not in DRAFTS:
        raise FirstTokenError(f"draft is {draft!r}; expected {' or '.join(DRAFTS)}, or none")
    if not runner.draft_tokens:
        raise FirstTokenError(f"bundle of {runner.manifest.checkpoint.name!r}: {no_drafts()}")


class Decoding:
    """The next token by decoding the one before it; ``calls`` counts the calls of the artifact, ``drafted`` and ``accepted`` tokens."""

    def __init__(self, runner: Runner, sampler: Sampler) -> None:
        self.runner, self.sampler = runner, sampler
        self.calls = self.drafted = self.accepted = 0

    def first(self, logits: np.ndarray) -> int:
        """The first token, from the prompt's logits."""
        return self.sampler.pick(logits)

    def after(self, token: int) -> int:
        """Appends ``token`` to the cache and returns the one that follows it."""
        self.calls += 1
        return self.sampler.pick(self.runner.decode(token))


class LookupDecoding(Decoding):
    """The same with drafts out of ``lookup``, which holds the text before the first token that `after` is given."""

    def __init__(self, runner: Runner, sampler: Sampler, lookup: Lookup) -> None:
        super().__init__(runner, sampler)
        self.lookup = lookup
        self._rows = np.zeros((0, 0), np.float32)  # logits of the known token and of the draft's
        self._draft: list[int] = []
        self._right = 0  # drafted tokens of this draft that were right
        self._average, self._pause, self._wait = 2 * WORTH, 1, 0
        self._unchecked: list[int] = []  # what would be drafted in a pause, and how much of it in a row has been right
        self._foreseen = 0

    def after(self, token: int) -> int:
        self.lookup.add(token)
        if self._right < len(self._draft) and self._draft[self._right] == token:
            self._right += 1
            self.accepted += 1
            self.runner.accept()
            return self.sampler.pick(self._rows[self._right])
        self._end_draft()
        self._draft = self._guess(token)
        if not self._draft:
            return super().after(token)
        self.calls += 1
        self.drafted += len(self._draft)
        self._rows, self._right = self.runner.check([token, *self._draft]), 0
        self.runner.accept()
        return self.sampler.pick(self._rows[0])

    def _guess(self, token: int) -> list[int]:
        """A draft, if one is worth its call: after some that were wrong, pauses of ever more tokens let a conversation cost what it costs without.

        A pause ends at once where guesses that were not checked turn out right.
        """
        room = self.runner.cache_length - self.runner.position - 1
        guess = self.lookup.guess(min(self.runner.draft_tokens, room)) if room > 0 else []
        if self._wait:
            self._wait -= 1
            right = self._unchecked[:1] == [token]
            self._foreseen = self._foreseen + 1 if right else 0
            self._unchecked = self._unchecked[1:] if right and len(self._unchecked) > 1 else guess
            if self._foreseen < FORESEEN:
                return []
            self._wait = 0
        self._unchecked, self._foreseen = [], 0
        return guess

    def _end_draft(self) -> None:
        if not self._draft:
            return
        self._average = PATIENCE * self._average + (1 - PATIENCE) * self._right
        if self._average >= WORTH:
            self._pause = 1
        else:
            self._wait, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        self._draft = []


def decoding(runner: Runner, sampler: Sampler, lookup: Lookup | None) -> Decoding:
    """How tokens follow each other: with drafts where there is a ``lookup`` to draft from."""
    return Decoding(runner, sampler) if lookup is None else LookupDecoding(runner, sampler, lookup)
