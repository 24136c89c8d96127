"""Whether a bundle's words are its checkpoint's: tokenizer, begin, end and special tokens, vocabulary and chat text.

Both tokenizers are run on the same texts; what the manifest says is worked out again from the checkpoint.
"""

from datetime import date
from pathlib import Path

import numpy as np

from firsttoken.bundle.chat_facts import Affix, Chat
from firsttoken.bundle.manifest import Manifest
from firsttoken.chat import chat_affixes, read_template, render
from firsttoken.errors import FirstTokenError
from firsttoken.prove.windows import CHAT, Window
from firsttoken.safe_text import visible
from firsttoken.tokenizer import PROBE, Tokenizer

TURNS = (
    {"role": "system", "content": "You are a helpful assistant. Answer in one sentence."},
    {"role": "user", "content": "What is the capital of France, and how many people live there?"},
    {"role": "assistant", "content": "Paris; about 2.1 million people live in the city."},
    {"role": "user", "content": "Und in Größe, 12345.678 km²?"},
)
# Text in which tokenizers differ: letters, digits, spaces, code, other scripts, and bytes that are nobody's token.
PROBES = (
    PROBE,
    "The quick brown fox jumps over the lazy dog. 'Tis they're  I'LL\t\ttabs\n\n\nnewlines   ",
    "x=0;for(i=0;i<10;++i){a[i]*=2.5e-3;} // {}[]()<>|&^%$#@!~`\\\"'",
    "Ελληνικά русский العربية עברית हिन्दी ไทย 日本語 한국어 中文 🙂👩‍👩‍👧‍👦 \u200b\u00a0\ufeff",
    "0 1 12 123 1234 12345 3.14159 1,000,000 ½ ² Ⅷ",
)
MOST_SPECIAL = 48  # special tokens that the chat window decodes one by one
MOST_CHAT = 256  # tokens of rendered chat in it


def missed_words(folder: Path, manifest: Manifest, checkpoint: Path) -> list[str]:
    """One line for every way in which the bundle's words are not the checkpoint's. Raises `FirstTokenError` for a tokenizer that cannot be read."""
    ours, theirs = Tokenizer(folder), Tokenizer(checkpoint)
    misses = missed_text(ours, theirs, [*PROBES, *special_texts(theirs)])
    facts, expected = manifest.tokenizer, theirs.facts()
    for name in ("vocab_size", "begin", *(() if facts.end_asked else ("end",)), "special"):
        got, wanted = getattr(facts, name), getattr(expected, name)
        if got != wanted:
            misses.append(f"tokenizer: {name} is {visible(got)}, the checkpoint's is {visible(wanted)}")
    chat = chat_affixes(checkpoint, theirs, exported_on(manifest.chat))
    if written(manifest.chat) != written(chat):
        misses.append(
            f"chat: a user turn is written {describe(manifest)}, but by the checkpoint's template {visible(repr((chat.prefix.text, chat.suffix.text)) if chat else 'none')}"
        )
    elif manifest.chat and chat and manifest.chat.conversation and manifest.chat.conversation != chat.conversation:
        misses.append("chat: a conversation of several turns is not written as by the checkpoint's template")
    return misses


def exported_on(chat: Chat | None) -> date | None:
    """The day that stands in a bundle's chat text; None where its template does not print one, or the day is no date."""
    try:
        return None if chat is None or chat.rendered_on is None else date.fromisoformat(chat.rendered_on)
    except ValueError:
        return None


def written(chat: Chat | None) -> tuple[Affix, Affix, str] | None:
    """The affixes and the trim: a conversation's pieces are compared by themselves, since bundles of before have none."""
    return None if chat is None else (chat.prefix, chat.suffix, chat.trim)


def describe(manifest: Manifest) -> str:
    chat = manifest.chat
    return visible(repr((chat.prefix.text, chat.suffix.text))) if chat else "without a template"


def special_texts(tokenizer: Tokenizer) -> list[str]:
    """Texts in which the special tokens stand between words."""
    names = list(tokenizer.special)
    return [" word ".join(names[start : start + 32]) for start in range(0, len(names), 32)]


def missed_text(ours: Tokenizer, theirs: Tokenizer, texts: list[str]) -> list[str]:
    """The first difference between what two tokenizers make of texts, and of the tokens again."""
    if ours.engine.get_vocab(with_added_tokens=True) != theirs.engine.get_vocab(with_added_tokens=True):
        return ["tokenizer: its vocabulary is not the checkpoint's"]
    for text in texts:
        got, wanted = ours.encode(text, begin=False), theirs.encode(text, begin=False)
        if got != wanted:
            place = next((n for n, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), min(len(got), len(wanted)))
            return [f"tokenizer: cuts {visible(repr(text), 60)} otherwise than the checkpoint's, from token {place} on"]
        for special in (False, True):
            if ours.decode(wanted, special) != theirs.decode(wanted, special):
                return [f"tokenizer: writes the tokens of {visible(repr(text), 60)} otherwise than the checkpoint's"]
    return []


def chat_window(tokenizer: Tokenizer, checkpoint: Path, cache_length: int, vocab_size: int) -> Window | None:
    """A chat with system and user turns as the checkpoint's template renders it, and behind it every special token, decoded one by one.

    None where the checkpoint has neither a template nor special tokens, or the cache has no room for them.
    """
    rendered = tokenizer.encode(chat_text(checkpoint, tokenizer), begin=False)[: min(MOST_CHAT, cache_length // 2)]
    special = [token for token in dict.fromkeys(tokenizer.special.values()) if token < vocab_size]
    first = [token for token in special if token in rendered or token in tokenizer.end_tokens(checkpoint)]
    chosen = [*first, *(token for token in special if token not in first)][: min(MOST_SPECIAL, cache_length // 4)]
    if not chosen and not rendered:
        return None
    words = tokenizer.encode(PROBES[1], begin=False) or [0]
    behind = [token for n, one in enumerate(chosen) for token in (one, words[n % len(words)])]
    begin = rendered or ([] if tokenizer.begin is None else [tokenizer.begin]) + words[:8]
    tokens = np.array([*begin, *behind, words[0]], np.int32)[: cache_length + 1]
    prompt = min(len(begin), len(tokens) - 1)
    return Window(tokens, ((prompt,),), len(tokens) - 1 - prompt, name=CHAT) if prompt > 0 else None


def chat_text(checkpoint: Path, tokenizer: Tokenizer) -> str:
    """`TURNS` as the template writes them, without the system turn where it refuses one; empty without a template."""
    template = read_template(checkpoint, tokenizer.settings)
    if template is None:
        return ""
    for turns in (TURNS, TURNS[1:], TURNS[1:2]):
        try:
            return render(template, list(turns), tokenizer.settings)
        except FirstTokenError:
            continue
    return ""
