"""Which tokens end an answer, where whoever exports says it, and what is said where the checkpoint does not."""

from collections.abc import Sequence

from firsttoken.bundle.chat_facts import Chat
from firsttoken.bundle.manifest import TokenizerFacts
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.safe_text import visible
from firsttoken.tokenizer import Tokenizer

NONE = "none"


def with_ends(tokenizer: Tokenizer, facts: TokenizerFacts, asked: Sequence[int | str]) -> TokenizerFacts:
    """``facts`` with the end tokens that were ``asked`` for, if any. Raises `FirstTokenError` where then nothing ends an answer."""
    if asked:
        return facts.model_copy(update={"end": asked_ends(tokenizer, asked), "end_asked": True})
    if not facts.end:
        raise FirstTokenError(
            f"checkpoint {tokenizer.folder}: no token ends an answer (looked for eos_token_id in generation_config.json and config.json, eos_token in "
            "tokenizer_config.json and special_tokens_map.json), so every answer would go on until the cache is full; name one with --end-token, or "
            "give --end-token none if that is meant"
        )
    return facts


def asked_ends(tokenizer: Tokenizer, asked: Sequence[int | str]) -> list[int]:
    """The tokens named by id or text; none for the one word "none". Raises `FirstTokenError` for what is no token."""
    if [str(name) for name in asked] == [NONE]:
        return []
    return sorted({_token(tokenizer, str(name)) for name in asked})


def _token(tokenizer: Tokenizer, name: str) -> int:
    number = int(name) if name.isdecimal() and name.isascii() and len(name) < 10 else tokenizer.token_id(name)
    if number is None or number >= tokenizer.vocab_size:
        raise FirstTokenError(
            f"--end-token is {visible(repr(name), 60)}; expected {NONE!r} alone, an id below {tokenizer.vocab_size}, or the text of a "
            f"token{nearest(name, tokenizer.special)}"
        )
    return number


def turn_end_note(tokenizer: Tokenizer, facts: TokenizerFacts, chat: Chat) -> str | None:
    """A line where the chat template closes an answer with a special token that ends none; None where it does not."""
    if chat.conversation is None or facts.end_asked:
        return None
    behind = tokenizer.encode(chat.conversation.assistant_to_user, begin=False)[:1]
    names = {number: text for text, number in tokenizer.special.items()}
    if not behind or behind[0] not in names or behind[0] in facts.end:
        return None
    return (
        f"the chat template closes an answer with {visible(repr(names[behind[0]]), 60)}, which the checkpoint does not list as an end token; "
        f"if answers run on, export with --end-token {behind[0]}"
    )
