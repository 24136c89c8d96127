"""The proof that a server's token ids are the student's: every ordinary token's text, and every special token's id, asked of the server."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from firsttoken.distill.servers.connection import AgainError, Connection, GoneError, RefusedError
from firsttoken.distill.servers.dialects import Dialect
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible
from firsttoken.tokenizer import REPLACEMENT, Tokenizer

TOGETHER = 512  # tokens whose texts are asked for at a time
TRIES = 3
Said = TypeVar("Said")


async def prove_same_tokens(dialect: Dialect, connection: Connection, model: str, tokenizer: Tokenizer) -> int:
    """Returns how many tokens were proven. Raises `FirstTokenError` naming the first that differs, or where the server does not say.

    Not asked of are tokens that are no whole character; of a byte-level vocabulary those are the pieces of what the others are made of.
    """
    special = set(tokenizer.special.values())
    texts = {token: tokenizer.decode([token], special=True) for token in range(tokenizer.vocab_size) if token not in special}
    whole = [token for token, text in texts.items() if text and REPLACEMENT not in text]
    for start in range(0, len(whole), TOGETHER):
        await _same_texts(dialect, connection, model, tokenizer, whole[start : start + TOGETHER])
    for text, token in tokenizer.special.items():
        if (got := await _asked(connection, partial(dialect.tokens, connection, model, text))) != [token]:
            raise _differ(connection, f"{text!r} is token {token} in the student's tokenizer and {got[:8]} in the server's")
    return len(whole) + len(special)


async def _same_texts(dialect: Dialect, connection: Connection, model: str, tokenizer: Tokenizer, tokens: list[int]) -> None:
    ours = tokenizer.decode(tokens, special=True)
    theirs = await _asked(connection, partial(dialect.text, connection, model, tokens))
    if theirs in (ours, ours.removeprefix(" ")):  # some leave a first space out
        return
    if len(tokens) == 1:
        raise _differ(connection, f"token {tokens[0]} is {ours!r} in the student's tokenizer and {theirs!r} in the server's")
    half = len(tokens) // 2
    await _same_texts(dialect, connection, model, tokenizer, tokens[:half])
    await _same_texts(dialect, connection, model, tokenizer, tokens[half:])
    # each half is right alone, so only the seam was written otherwise


def _differ(connection: Connection, how: str) -> FirstTokenError:
    return FirstTokenError(
        f"{connection.server.url}: has another tokenizer than the student: {visible(how)}; token by token they cannot be compared; take a student of the "
        "teacher's family, or train it on answers that the teacher writes (firsttoken distill generate)"
    )


async def _asked(connection: Connection, ask: Callable[[], Awaitable[Said]]) -> Said:
    why = ""
    for _ in range(TRIES):
        try:
            return await ask()
        except AgainError as error:
            why = str(error)
            connection.pace.pause(1.0)
        except (RefusedError, GoneError) as error:
            why = str(error)
            break
    raise FirstTokenError(
        f"{connection.server.url}: does not say what its tokens are ({why}), so that they are the student's cannot be proven"
    )
