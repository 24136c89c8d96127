"""A conversation in a file: its messages, and what the cache holds of them, so that it goes on as if it had never ended.

An ``.npz`` of plain arrays, stored as they are; the archive's checksums find damage. It may come from anyone, so nothing of it is taken before its
place, type and size are as they must be.
"""

import io
import math
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field, ValidationError

from firsttoken import plain_file
from firsttoken.atomic_file import write_bytes
from firsttoken.backends.registry import find_backend
from firsttoken.bundle.manifest import Manifest
from firsttoken.bundle.part import Part
from firsttoken.declarations import first_problem
from firsttoken.errors import FirstTokenError
from firsttoken.run.turns import Chat

FORMAT: Final = 1
FACTS, TOKENS, HELD = "conversation", "tokens", "held."
MOST_BYTES = 8 << 30  # of a file; a cache of 32,768 tokens of an 8B model takes 4 GiB in FP16
MOST_MEMBERS = 10_000
TYPES = ("float32", "float16", "int32", "int64", "uint8")


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
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # numpy's stubs take every keyword for allow_pickle
    write_bytes(path, content.getvalue())


def resume_chat(chat: Chat, manifest: Manifest, path: str | Path) -> str | None:
    """Puts a saved conversation in the place of ``chat``'s, and what the cache held of it; returns what a user should know, if anything.

    Raises `FirstTokenError` for a file that is none, is damaged, or was held with another artifact; then ``chat`` has no turns.
    """
    path = Path(path)
    arrays = read_arrays(path)
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
        raise FirstTokenError(f"conversation {path}: holds no conversation; expected a file that `firsttoken chat --session` wrote")
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


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads every array of an ``.npz`` that is stored as it is. Raises `FirstTokenError` for anything else, before memory is taken for what is not there."""
    try:
        with plain_file.open_plain(path) as stream:
            plain_file.check_size(stream, path, MOST_BYTES)
            with zipfile.ZipFile(stream) as archive:
                members = archive.infolist()
                if len(members) > MOST_MEMBERS or len({member.filename for member in members}) < len(members):
                    raise ValueError(f"{len(members)} members, or two of one name")
                return {member.filename.removesuffix(".npy"): read_array(archive, member) for member in members}
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        why = plain_file.why(error) if isinstance(error, OSError) else str(error)
        raise FirstTokenError(
            f"conversation {path}: cannot be read ({why}); expected a file that `firsttoken chat --session` wrote"
        ) from None


def read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Raises `ValueError` for a member that is compressed, or no array that fills it."""
    if member.compress_type != zipfile.ZIP_STORED or not member.filename.endswith(".npy"):
        raise ValueError(f"{member.filename!r} is compressed or no .npy")
    with archive.open(member) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"{member.filename!r} has another header")
        shape, turned, dtype = np.lib.format.read_array_header_1_0(stream)
        content: Any = stream.read()  # to the end, where its checksum is looked at
    if turned or dtype.name not in TYPES or math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"{member.filename!r} is {dtype} {list(shape)} in {len(content)} bytes")
    return np.frombuffer(content, dtype).reshape(shape)
