"""Tokens and chat texts of firsttoken and of transformers, side by side: the first difference, in words."""

from dataclasses import dataclass
from typing import Any

from firsttoken.safe_text import visible


@dataclass(frozen=True)
class Said:
    """A chat as text and tokens, or why it cannot be written."""

    text: str | None = None
    tokens: list[int] | None = None
    error: str | None = None


def missed_words(texts: list[str], tokens: list[list[int]], said: list[Said], answer: dict[str, Any]) -> tuple[str | None, str | None]:
    """Returns what differs, or None; and a remark, or None.

    transformers builds some tokenizers anew from their vocabulary. Where such a one differs, but the tokenizer.json as it is written cuts as
    firsttoken does, that file is taken at its word, as every other library takes it, and it is remarked.
    """
    first = _differences(texts, tokens, said, answer["texts"], answer["chats"])
    if first is None:
        return None, None
    if answer["written"] is not None and _differences(texts, tokens, said, answer["written"], answer["written_chats"]) is None:
        return (
            None,
            f"as tokenizer.json is written; transformers' {answer['tokenizer']} builds a tokenizer of its own, which differs: {first}",
        )
    return first, None


def _differences(texts: list[str], tokens: list[list[int]], said: list[Said], theirs: list, chats: list | None) -> str | None:
    for text, ours, other in zip(texts, tokens, theirs, strict=True):
        if ours != other:
            return f"tokens: {visible(repr(text), 60)} {_place(ours, other)}"
    if chats is None:
        return "chat: transformers finds no chat template" if said else None
    for number, (our, other) in enumerate(zip(said, chats, strict=True), 1):
        if (our.error is None) != ("error" not in other):
            return f"chat: conversation {number} is {_outcome(our.error)} by firsttoken, but {_outcome(other.get('error'))} by transformers"
        if our.text is None or our.tokens is None:
            continue
        if our.text != other["text"]:
            start = next(
                (n for n, (a, b) in enumerate(zip(our.text, other["text"], strict=False)) if a != b),
                min(len(our.text), len(other["text"])),
            )
            begin = max(0, start - 10)
            return (
                f"chat: conversation {number} is written {visible(repr(our.text[begin : start + 30]), 60)} by firsttoken, but "
                f"{visible(repr(other['text'][begin : start + 30]), 60)} by transformers, from character {start} on"
            )
        if our.tokens != other["tokens"]:
            return f"tokens: conversation {number} {_place(our.tokens, other['tokens'])}"
    return None


def _outcome(error: str | None) -> str:
    return "written" if error is None else f"refused ({visible(error, 120)})"


def _place(ours: list[int], theirs: list[int]) -> str:
    place = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    shown = [tokens[place] if place < len(tokens) else "its end" for tokens in (ours, theirs)]
    return f"is {len(ours)} tokens to firsttoken and {len(theirs)} to transformers; at place {place} {shown[0]} and {shown[1]}"
