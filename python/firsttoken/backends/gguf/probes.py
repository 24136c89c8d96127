"""Texts that are hard to cut into tokens, and whether two tokenizers cut them alike."""

from collections.abc import Callable, Iterator

from firsttoken.safe_text import visible
from firsttoken.tokenizer import Tokenizer

TEXTS = (
    "Hello, world! It's what they've said: we'll go, he'd stay, I'M SURE THEY'RE LATE.",
    "1 12 123 1234 1234567 3.14159 1,000,000 0x1F 2026-11-30T19:10 v1.2.3 \u0663\u0664\u0665 \u00bd \u00b2\u00b3",
    " leading, trailing  two   three    four \t tab\t\ttabs ",
    "line\nnext\n\nblank\r\nwindows\r\n\r\n   indented\n\t\tdeep\n   \n \n",
    "def first_token(self, *, n: int = 3) -> dict[str, int]:\n    return {f'{k!r}': v**2 for k, v in self.items() if v != -1}  # ok\n",
    "<div class=\"a-b\">x &amp; y</div> /* c */ #include <stdio.h> $PATH ${HOME} a||b && !c ?? d :: e => f",
    "https://example.org/a/b?c=d&e=%20f#g user.name+tag@example.com C:\\Users\\x",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8 \ud55c\uad6d\uc5b4 \u4e2d123\u6587abc",
    "\u00e9t\u00e9 na\u00efve \u00dcberma\u00df \u0141\u00f3d\u017a \u010ce\u0161tina \u00f1and\u00fa \u00c5ngstr\u00f6m \u0130stanbul",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f \U0001f44d\U0001f3fd ok\U0001f389",
    "\u201cquotes\u201d \u2018single\u2019 \u2014 dash \u2026 \u20ac5 \u00a37 \u00a0nbsp\u00a0\u3000wide\u200bzero",
    "camelCase snake_case SCREAMING_CASE kebab-case don't Don'T DON'T o'clock rock'n'roll 'tis",
    "a", " ", "\n", "\t", "0", "\u00e9",
)  # fmt: skip
COMPOSED_ONLY = "e\u0301 o\u0308 n\u0303"  # accents of their own, which NFC joins with their letter
MOST_ADDED = 512  # of a tokenizer's added tokens, special or not, that are tried inside a text


def texts(tokenizer: Tokenizer) -> Iterator[str]:
    """The texts, and some with the tokenizer's own added tokens in them, those first that take spaces or stand alone."""
    yield from TEXTS
    added = tokenizer.engine.get_added_tokens_decoder().values()
    plain = [token for token in added if not (token.lstrip or token.rstrip or token.single_word or token.normalized)]
    odd = [token.content for token in added if token not in plain]
    for token in [*odd, *(token.content for token in plain[:MOST_ADDED])]:
        yield f"before{token}after {token} between\n{token}\n"


def different(tokenizer: Tokenizer, encode: Callable[[str], list[int]]) -> str | None:
    """The first text that ``encode`` cuts otherwise than ``tokenizer``, in words; None where there is none."""
    for text in texts(tokenizer):
        ours, theirs = tokenizer.encode(text, begin=False), encode(text)
        if ours != theirs:
            at = next((n for n, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other), min(len(ours), len(theirs)))
            return f"{visible(repr(text), 60)} is {len(ours)} tokens and {len(theirs)}, from place {at} on {ours[at : at + 4]} and {theirs[at : at + 4]}"
    return None


def composes(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer joins accents with their letters (NFC), which llama.cpp does not."""
    import unicodedata

    return tokenizer.encode(COMPOSED_ONLY, begin=False) == tokenizer.encode(unicodedata.normalize("NFC", COMPOSED_ONLY), begin=False)
