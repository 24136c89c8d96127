"""Guessing what follows by what followed last time: the most recent place where the last few tokens stood before (prompt lookup, Saxena 2023)."""

from collections.abc import Sequence


class Lookup:
    """The tokens of a text, and where each run of ``shortest`` to ``longest`` of them was last followed by another token.

    A token costs a few dictionary entries, however long the text is; they are made when a guess is wanted first.
    """

    def __init__(self, longest: int = 4, shortest: int = 2) -> None:
        self.tokens: list[int] = []
        self._sizes = range(longest, shortest - 1, -1)
        self._followed: dict[tuple[int, ...], int] = {}  # by the run: the place behind it
        self._indexed = 0

    def follow(self, tokens: Sequence[int]) -> None:
        """Takes ``tokens`` as the text: goes on where it begins with what is here, else begins anew."""
        if list(tokens[: len(self.tokens)]) != self.tokens:
            self.__init__(self._sizes.start, self._sizes.stop + 1)  # type: ignore[misc]
        self.tokens += tokens[len(self.tokens) :]

    def add(self, token: int) -> None:
        """Appends one token."""
        self.tokens.append(token)

    def guess(self, count: int, least: int = 0) -> list[int]:
        """Returns ``count`` tokens that may follow, or none where the last ``least`` tokens (and no fewer than the shortest run) stood nowhere before.

        Where the earlier place is so near that the text ends before ``count`` tokens, the guess goes on with itself.
        """
        text, end = self.tokens, len(self.tokens)
        for place in range(self._indexed, end):  # only now is each of them a token that followed
            for size in self._sizes:
                if size <= place:
                    self._followed[tuple(text[place - size : place])] = place
        self._indexed = end
        for size in self._sizes:
            found = self._followed.get(tuple(text[end - size :])) if least <= size <= end else None
            if found is not None:
                guess = text[found : found + count]
                while len(guess) < count:
                    guess.append(guess[len(guess) - (end - found)])
                return guess
        return []
