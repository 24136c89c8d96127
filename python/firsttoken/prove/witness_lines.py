"""What is said of a witness: a proof's line, and the error where it understands the checkpoint otherwise."""

from firsttoken.bundle.witness_facts import Witness
from firsttoken.errors import GateError

NOT_UNDERSTOOD = "the checkpoint was not understood"
ADVICE = "look at config.json and the tokenizer's files, or report it; --no-witness exports it nevertheless"


def misunderstood(found: Witness | None) -> str | None:
    """The line of a checkpoint that transformers understands otherwise; None where it does not, or was not asked."""
    return f"{NOT_UNDERSTOOD}: {found.why}; {ADVICE}" if found is not None and found.said == "differs" else None


def need_understood(found: Witness) -> None:
    """Raises `GateError` for a checkpoint that transformers understands otherwise."""
    if (line := misunderstood(found)) is not None:
        raise GateError(line)


def witness_line(found: Witness) -> str:
    """What a proof says of its witness."""
    if found.said == "not witnessed":
        return f"not witnessed: {found.why}"
    if found.said == "differs":
        return f"{NOT_UNDERSTOOD}: {found.why}"
    chats = f" and {found.chats} chats" if found.chats else ""
    return (
        f"understood as by {found.by}: logits within {found.difference:.1e} of their spread in FP32 (bound {found.bound:g}, {found.positions} positions, "
        f"{found.layers} of {found.of_layers} layers), {found.texts} texts{chats} token by token{f'; {found.why}' if found.why else ''}"
    )
