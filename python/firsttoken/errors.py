"""The one exception a user is meant to see: one line, with what to do next."""

from collections.abc import Iterable

from firsttoken.safe_text import harmless

LONGEST = 3000  # characters of a message, most of which repeats something of a file


class FirstTokenError(Exception):
    """Bad input or an unmet need. The message says what was got, what was expected and what to do.

    The command line prints it as one line without a traceback and exits with ``exit_code``. Most messages repeat something of a
    file, so none can steer a terminal, and
    none is longer than one line that can be read.
    """

    exit_code = 2

    def __str__(self) -> str:
        said = super().__str__()
        if len(said) > LONGEST:  # the advice stands at the end
            said = f"{said[: LONGEST // 2]} … {said[-LONGEST // 3 :]}"
        return harmless(" ".join(said.split()))


class GateError(FirstTokenError):
    """The artifact was written but missed a bound of its proof, or its structure is not what was asked."""

    exit_code = 3


def nearest(got: str, options: Iterable[str], count: int = 3) -> str:
    """Returns ``" (did you mean 'a' or 'b'?)"`` for the options closest to ``got``, whatever the case of its letters, or an empty string."""
    from difflib import get_close_matches

    named = {str(option).lower(): str(option) for option in options}
    close = [named[one] for one in get_close_matches(got.lower(), named, n=count, cutoff=0.5)]
    return f" (did you mean {' or '.join(repr(c) for c in close)}?)" if close else ""
