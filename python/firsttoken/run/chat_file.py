"""A conversation in a file: its messages, and what the cache holds of them, so that it goes on as if it had never ended.

It may come from anyone: `run.arrays_file` reads it.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydantic import Field, ValidationError

from firsttoken import plain_file
from firsttoken.backends.registry import find_backend
from firsttoken.bundle.manifest import Manifest
from firsttoken.bundle.part import Part
from firsttoken.declarations import first_problem
from firsttoken.errors import FirstTokenError
from firsttoken.run.arrays_file import read_arrays, write_arrays
from firsttoken.run.turns import Chat

FORMAT: Final = 1
FACTS, TOKENS, HELD = "conversation", "tokens", "held."
WRITTEN_BY = "expected a file that `firsttoken chat --session` wrote"


class Message(Part):
    role: Literal["system", "user", "assistant"]
    content: str


class Facts(Part):
    """What a conversation was held with: the artifact by its SHA-256, the runtime by its package and version."""

    format: Literal[1] = FORMAT
    artifact: str
    runtime: str
    messages: list[Message]
    dropped: int = Field(ge=0)


def runtime_of(manifest: Manifest) -> str:
    package = find_backend(manifest.cpu.backend).package
    return f"{package} {version(package)}"


def save_chat(chat: Chat, manifest: Manifest, path: str | Path) -> None:
    """Writes the conversation, whole or not at all; without the cache where the runtime keeps that to itself. Raises `FirstTokenError`."""
    messages = [Message.model_validate(message) for message in chat.messages]
    facts = Facts(artifact=manifest.facts(manifest.cpu).sha256, runtime=runtime_of(manifest), messages=messages, dropped=chat.dropped)
    arrays = {FACTS: np.frombuffer(facts.model_dump_json().encode(), np.uint8)}
    held = chat.runner.held_arrays()
    if held is not None:
        arrays |= {TOKENS: chat.runner.held_tokens} | {HELD + name: array for name, array in held.items()}
    write_arrays(path, arrays)


def resume_chat(chat: Chat, manifest: Manifest, path: str | Path) -> str | None:
    """Puts a saved conversation in the place of ``chat``'s, and what the cache held of it; returns what a user should know, if anything.

    Raises `FirstTokenError` for a file that is none, is damaged, or was held with another artifact; then ``chat`` has no turns.
    """
    path = Path(path)
    arrays = read_arrays(path, "conversation", WRITTEN_BY)
    facts = facts_of(path, arrays.pop(FACTS, None))
    if facts.artifact != manifest.facts(manifest.cpu).sha256:
        raise FirstTokenError(
            f"conversation {path}: was held with another artifact (SHA-256 {facts.artifact[:12]}…) than this bundle's; go on with that bundle, or begin a new file"
        )
    tokens = arrays.pop(TOKENS, None)
    note = None
    if tokens is None or facts.runtime != runtime_of(manifest):
        note = "the next turn computes the conversation anew: " + (
            "the runtime keeps its cache to itself"
            if tokens is None
            else f"it was held with {facts.runtime}, this is {runtime_of(manifest)}"
        )
        chat.runner.reset()
    else:
        hold(chat, path, tokens, arrays)
    chat.messages = [{"role": message.role, "content": message.content} for message in facts.messages]
    chat.dropped = facts.dropped
    return note


def hold(chat: Chat, path: Path, tokens: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
    """Gives the runner its cache back. Raises `FirstTokenError`."""
    if tokens.dtype != np.int32 or tokens.ndim != 1:
        raise FirstTokenError(f"conversation {path}: its tokens are {tokens.dtype} {list(tokens.shape)}; expected a row of int32")
    if not len(tokens):
        chat.runner.reset()
        return
    try:
        chat.runner.hold_again(tokens, {name.removeprefix(HELD): array for name, array in arrays.items()})
    except FirstTokenError as error:
        raise FirstTokenError(f"conversation {path}: {error}; begin a new file") from None


def facts_of(path: Path, array: np.ndarray | None) -> Facts:
    """What the file says of the conversation. Raises `FirstTokenError`."""
    if array is None:
        raise FirstTokenError(f"conversation {path}: holds no conversation; {WRITTEN_BY}")
    try:
        facts = Facts.model_validate(plain_file.parse_json(array.tobytes()), strict=True)
    except ValueError as error:
        said = first_problem(error, {}) if isinstance(error, ValidationError) else str(error)
        raise FirstTokenError(f"conversation {path}: cannot be read ({said}); begin a new file") from None
    if not in_turn(facts.messages):
        raise FirstTokenError(f"conversation {path}: is not one of questions and answers in turn; begin a new file")
    return facts


def in_turn(messages: list[Message]) -> bool:
    """Whether these are a system message or none, then questions and answers in turn, the last one an answer."""
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    return len(turns) % 2 == 0 and all(role == ("user", "assistant")[place % 2] for place, role in enumerate(turns))
