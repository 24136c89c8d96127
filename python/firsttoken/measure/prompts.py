"""Prompts of an exact number of tokens, cut from real text: one token repeated would flatter caches and tokenizers."""

from collections.abc import Callable

from firsttoken.backends.runner import RunnerFacts
from firsttoken.demo import held_out_text
from firsttoken.errors import FirstTokenError
from firsttoken.run.generate import encode_prompt
from firsttoken.tokenizer import Tokenizer

STARTS = 50  # places of the text tried before giving up
NEIGHBOURHOOD = 40  # characters around the length found by halving


def exact_prompt(tokenizer: Tokenizer, manifest: RunnerFacts, tokens: int, chat: bool, system: str | None = None) -> str:
    """Returns text that gives exactly ``tokens`` tokens, begin token or chat template included, and the ``system`` message before it.

    The text is the demo's held-out text from its start (from a later line where no cut there fits); it is repeated
    where it is too short. Raises `FirstTokenError` where the template alone has more tokens, or no cut fits.
    """
    template = manifest.chat if chat else None
    if chat and template is None:
        raise FirstTokenError(f"bundle of {manifest.checkpoint.name!r} has no chat template; measure it with --raw")

    def count(text: str) -> int:
        return len(encode_prompt(tokenizer, text, template, system if chat else None))

    least = count("a")
    if tokens < least:
        what = "the chat template and one token" if chat else "the shortest prompt"
        raise FirstTokenError(
            f"a prompt of {tokens} tokens cannot be made: {what} of {manifest.checkpoint.name!r} take {least}; ask for more{' or use --raw' if chat else ''}"
        )
    source = held_out_text()
    while count(source) < tokens + NEIGHBOURHOOD:
        source += "\n" + source
    start = 0
    for _ in range(STARTS):
        if found := _cut(source[start:], tokens, count):
            return found
        start = source.index("\n", start) + 1
        if start > len(source) // 2:
            break
    raise FirstTokenError(
        f"no piece of the held-out text gives exactly {tokens} tokens with the tokenizer of {manifest.checkpoint.name!r}; ask for another number"
    )


def _cut(text: str, tokens: int, count: Callable[[str], int]) -> str | None:
    low, high = 1, min(len(text), 64)
    while count(text[:high]) < tokens and high < len(text):
        low, high = high, min(2 * high, len(text))
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if count(text[:middle]) < tokens else (low, middle)
    # the count is not quite monotonic in the length, since a longer text may merge two tokens into one
    near = range(max(1, low - NEIGHBOURHOOD), min(len(text), low + NEIGHBOURHOOD) + 1)
    return next(
        (text[:length] for length in sorted(near, key=lambda n: abs(n - low)) if count(text[:length]) == tokens and text[:length].strip()),
        None,
    )
