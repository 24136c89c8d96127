"""Opening a ``tokenizer.json`` that anyone may have written with the tokenizers library, whose Rust code panics over some of them.

A panic is no `Exception` in Python, and it prints several lines of its own; here both become one `FirstTokenError`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from firsttoken import plain_file
from firsttoken.errors import FirstTokenError
from firsttoken.quiet import quiet_runtime
from firsttoken.safe_text import visible

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Engine

PANIC = "PanicException"  # of pyo3_runtime, which cannot be imported
TRIED = "def f(x):\n\treturn 12345.678  # Größe, 第一个 token\r\n  naïve <|end|> 🙂"


def open_engine(path: Path) -> "Engine":
    """Returns the tokenizer of a ``tokenizer.json``, without padding and truncation, after it has cut and joined a short text.

    Raises `FirstTokenError` for a file that cannot be read, is no tokenizer, or is one that fails.
    """
    from tokenizers import Tokenizer as Engine

    try:
        text = plain_file.read_text(path, plain_file.TOKENIZER_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise FirstTokenError(f"{path}: cannot be read as a tokenizer ({visible(plain_file.why(error))})") from None
    with quiet_panics(f"{path}: cannot be read as a tokenizer"):
        engine = Engine.from_str(text)
        engine.no_padding()
        engine.no_truncation()
    with quiet_panics(f"{path}: the tokenizer fails on a short text"):
        engine.decode(engine.encode(TRIED).ids)
    return engine


@contextmanager
def quiet_panics(what: str) -> Iterator[None]:
    """What the library raises in the body becomes a `FirstTokenError` that begins with ``what``; a panic's own lines are not shown."""
    failed: BaseException | None = None
    with quiet_runtime():
        try:
            yield
        except BaseException as error:  # a panic derives from it alone
            if not isinstance(error, Exception) and type(error).__name__ != PANIC:
                raise
            failed = error
    if failed is not None:
        raise FirstTokenError(f"{what} ({visible(failed) or type(failed).__name__}); copy it again from the model's page")


@contextmanager
def told_panics(what: str) -> Iterator[None]:
    """The same for a body that runs often: what a panic prints is left where it goes."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != PANIC:
            raise
        raise FirstTokenError(
            f"{what} ({visible(error) or type(error).__name__}); copy tokenizer.json again from the model's page"
        ) from None
