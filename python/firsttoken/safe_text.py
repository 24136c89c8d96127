"""Text from files that anyone may have written, made fit to show."""

LONGEST = 200  # characters


def visible(text: object, longest: int = LONGEST) -> str:
    """Returns ``text`` with control characters, lone surrogates and direction marks spelled out, and cut to ``longest`` characters.

    So a name can neither steer a terminal nor turn a line of a page around; HTML is escaped elsewhere.
    """
    shown = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in str(text)[: longest + 1]
    )
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
