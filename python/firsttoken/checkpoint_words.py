"""What a checkpoint's bundles all say about text and tokens: read once, and refused where a bundle cannot say it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from firsttoken.bundle.chat_facts import Chat
from firsttoken.bundle.manifest import TokenizerFacts
from firsttoken.chat import chat_affixes
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.end_tokens import turn_end_note, with_ends
from firsttoken.errors import FirstTokenError
from firsttoken.special_tokens import check_special_tokens
from firsttoken.tokenizer import Tokenizer


@dataclass(frozen=True)
class Words:
    """What a checkpoint's bundles all say about text and tokens."""

    tokenizer: Tokenizer
    facts: TokenizerFacts
    chat: Chat | None


def read_words(source: Checkpoint, decoder: Decoder, end_tokens: Sequence[int | str], say: Callable[[str], None]) -> Words:
    """Reads tokenizer and chat template. Raises `FirstTokenError` for what a bundle cannot say, and where nothing ends an answer."""
    tokenizer = Tokenizer(source.folder)
    check_tokenizer(tokenizer, decoder)
    check_special_tokens(source.folder, tokenizer.engine)
    facts, chat = with_ends(tokenizer, tokenizer.facts(), end_tokens), chat_affixes(source.folder, tokenizer)
    notes = [tokenizer.begin_note()]
    if chat is not None:
        notes += [chat_note(chat), turn_end_note(tokenizer, facts, chat)]
        if chat.rendered_on is not None:
            notes.append(
                f"the chat template prints the date; the bundle will say {chat.rendered_on} on every day, export again for another"
            )
    for note in notes:
        if note is not None:
            say(note)
    return Words(tokenizer, facts, chat)


def chat_note(chat: Chat) -> str | None:
    """What it means that a conversation cannot be written; None where it can."""
    if chat.conversation_refused is None:
        return None
    return f"the app will answer every question by itself: the chat template cannot be written without Jinja, {chat.conversation_refused}"


def check_tokenizer(tokenizer: Tokenizer, decoder: Decoder) -> None:
    """Raises `FirstTokenError` if the tokenizer knows tokens for which the model has no row."""
    if tokenizer.vocab_size > decoder.vocab_size:
        raise FirstTokenError(
            f"{tokenizer.folder / 'tokenizer.json'}: has token ids up to {tokenizer.vocab_size - 1}, but config.json says vocab_size {decoder.vocab_size}; "
            "the tokenizer belongs to another checkpoint"
        )
