"""Whether two texts share so many words in a row that one was copied from the other."""

import re

GRAM = 13
WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Lower-case words and numbers; punctuation and spacing do not hide a copy."""
    return WORD.findall(text.lower())


def grams(text: str, size: int = GRAM) -> set[tuple[str, ...]]:
    """All runs of ``size`` words; of a shorter text, the whole of it."""
    found = words(text)
    if not found:
        return set()
    return {tuple(found[n : n + size]) for n in range(max(1, len(found) - size + 1))}


def contaminated(text: str, forbidden: set[tuple[str, ...]], size: int = GRAM) -> bool:
    """Whether ``text`` shares a run of ``size`` words with the evaluation texts, or holds one of their shorter texts whole."""
    if not grams(text, size).isdisjoint(forbidden):
        return True
    found = words(text)
    lengths = {len(gram) for gram in forbidden if len(gram) < size}
    return any(tuple(found[n : n + length]) in forbidden for length in lengths for n in range(len(found) - length + 1))
