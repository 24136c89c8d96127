"""Records of training data as documents, in the forms that data sets come in: a text, a chat, or a prompt with its answer.

Read are ``.jsonl`` and ``.ndjson`` (an object a line), ``.json`` (an array of objects, or one under "data") and ``.parquet``, and in them

  "text"                                    plain text
  "messages"                                a chat: "role" and "content"; with "reasoning_content", "tool_calls", and "tools" beside them
  "conversations"                           the same as ShareGPT has it: "from" and "value"
  "prompt", "answer" (or "completion", "response"), with "reasoning_content" where there are thoughts
  "instruction", "input", "output"          as Alpaca has it
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firsttoken import plain_file
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.extras import need
from firsttoken.json_lines import json_lines, read_text
from firsttoken.safe_text import visible

ROLES = ("system", "user", "assistant", "tool")
SHAREGPT_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "function": "tool",
    "observation": "tool",
}
ANSWERS = ("answer", "completion", "response")
THOUGHTS = ("reasoning_content", "reasoning")  # fields beside an answer
KNOWN = ("text", "messages", "conversations", "prompt", *ANSWERS, "instruction", "output")
EXPECTED = '"text", "messages", "conversations", "prompt" and "answer", or "instruction" and "output"'
SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")
MOST_ROWS = 1024  # of a parquet file read at a time


@dataclass(frozen=True)
class Document:
    """Text, or the turns of a chat with the tools that it may call; one of the two."""

    source: str
    domain: str
    text: str | None = None
    messages: list[dict] | None = None
    tools: list | None = None


def read_records(path: Path, domain: str, skip: Callable[[str], None] | None = None) -> Iterator[Document]:
    """Yields one document a record; its own ``domain`` wins.

    Raises `FirstTokenError` for a file that cannot be read and, naming the line or record, for one that holds none of the forms; with
    ``skip`` that is told of the latter instead, and reading goes on.
    """
    for number, value in numbered(path, skip):
        try:
            yield document_of(value, path, number, domain)
        except FirstTokenError as error:
            if skip is None:
                raise
            skip(str(error))


def numbered(path: Path, skip: Callable[[str], None] | None = None) -> Iterator[tuple[int, dict]]:
    """Yields the records of a file with the number of their line, or of themselves, from 1."""
    kind = path.suffix.lower()
    if kind == ".parquet":
        yield from _parquet(path)
    elif kind == ".json":
        yield from _array(path, skip)
    else:
        yield from json_lines(path, skip)


def place_of(path: Path, number: int) -> str:
    """How a record is named in errors."""
    return f"{path}, {'line' if path.suffix.lower() in ('.jsonl', '.ndjson') else 'record'} {number}"


def _array(path: Path, skip: Callable[[str], None] | None) -> Iterator[tuple[int, dict]]:
    try:
        value = plain_file.parse_json(read_text(path))
    except ValueError as error:
        raise FirstTokenError(f"{path}: not JSON ({visible(error)}); expected an array of records, or name lines of JSON .jsonl") from None
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
    if not isinstance(value, list):
        raise FirstTokenError(f'{path}: holds {_kind(value)}; expected an array of records, or an object with one under "data"')
    for number, record in enumerate(value, 1):
        if isinstance(record, dict):
            yield number, record
        elif skip is None:
            raise FirstTokenError(f"{path}, record {number}: expected a JSON object, got {_kind(record)}")
        else:
            skip(f"{path}, record {number}: expected a JSON object, got {_kind(record)}")


def _kind(value: object) -> str:
    if isinstance(value, dict):
        return f"an object with {', '.join(visible(repr(key), 40) for key in list(value)[:6]) or 'nothing'}"
    return {list: "an array", str: "a text", bool: "true or false", type(None): "null"}.get(type(value), "a number")


def _parquet(path: Path) -> Iterator[tuple[int, dict]]:
    need("parquet", f"{path}: reading parquet")
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with plain_file.open_plain(path) as stream, pyarrow.parquet.ParquetFile(stream) as file:
            for batch in file.iter_batches(MOST_ROWS):
                for record in batch.to_pylist():
                    number += 1
                    # a column that this record has no value in is no field of it
                    yield number, {name: value for name, value in record.items() if value is not None}
    except (pyarrow.ArrowException, OSError) as error:
        raise FirstTokenError(f"{path}: cannot be read as parquet ({visible(error, 120)}); copy it again") from None


def document_of(value: dict, path: Path, number: int, domain: str) -> Document:
    """One record as a document. Raises `FirstTokenError` naming it."""
    where, place = f"{path.name}:{number}", place_of(path, number)
    own = str(value.get("domain", domain))
    if isinstance(value.get("text"), str):
        return Document(where, own, value["text"])
    messages, tools = messages_of(value, place), value.get("tools")
    if messages is not None:
        return Document(where, own, messages=check_messages(messages, place), tools=tools if isinstance(tools, list) and tools else None)
    hint = next((found for key in value if key not in KNOWN and (found := nearest(key, KNOWN))), "")
    raise FirstTokenError(f"{place}: has {', '.join(visible(repr(key), 40) for key in value) or 'nothing'}{hint}; expected {EXPECTED}")


def messages_of(value: dict, place: str) -> list | None:
    """The turns of a record that is a chat or a question with its answer, unchecked; None for another."""
    if isinstance(value.get("messages"), list):
        return value["messages"]
    if isinstance(value.get("conversations"), list):
        return _sharegpt(value, place)
    answer = next((value[key] for key in ANSWERS if isinstance(value.get(key), str)), None)
    if isinstance(value.get("prompt"), str) and answer is not None:
        return _asked(value["prompt"], answer, value.get("system"), {name: value[name] for name in THOUGHTS if name in value})
    if isinstance(value.get("instruction"), str) and isinstance(value.get("output"), str):
        more = value.get("input")
        asked = f"{value['instruction']}\n\n{more}" if isinstance(more, str) and more.strip() else value["instruction"]
        return _asked(asked, value["output"], value.get("system"))
    return None


def _asked(question: str, answer: str, system: object, thought: dict | None = None) -> list[dict]:
    begun = [{"role": "system", "content": system}] if isinstance(system, str) and system.strip() else []
    return [*begun, {"role": "user", "content": question}, {**(thought or {}), "role": "assistant", "content": answer}]


def _sharegpt(value: dict, place: str) -> list[dict]:
    turns = value["conversations"]
    for turn in turns:
        if not isinstance(turn, dict) or not isinstance(turn.get("from"), str):
            raise FirstTokenError(f'{place}: a turn of "conversations" is {visible(str(turn), 80)}; expected "from" and "value"')
    system = value.get("system")
    begun = [{"role": "system", "content": system}] if isinstance(system, str) and system.strip() else []
    return begun + [{"role": SHAREGPT_ROLES.get(turn["from"], turn["from"]), "content": turn.get("value")} for turn in turns]


def check_messages(messages: list, place: str) -> list[dict]:
    """Returns the turns of a chat with their contents as text, thoughts included. Raises `FirstTokenError` for one without a known role and text."""
    checked = []
    for message in messages:
        content = _content(message) if isinstance(message, dict) and message.get("role") in ROLES else None
        if content is None:
            raise FirstTokenError(
                f'{place}: a message is {visible(str(message), 80)}; expected "role" (one of {", ".join(ROLES)}) and "content" as text'
            )
        others = {name: value for name, value in message.items() if name not in ("content", *THOUGHTS) and value is not None}
        checked.append({**others, "content": content})
    if not any(message["role"] == "assistant" for message in checked):
        raise FirstTokenError(f"{place}: no message of the assistant; there is nothing to learn from")
    return checked


def _content(message: dict) -> str | None:
    """A message's text: of parts the texts, nothing beside calls of tools, and thoughts that stand in a field of their own before it."""
    content: Any = message.get("content")
    if isinstance(content, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        content = "".join(part["text"] for part in content)
    if content is None and isinstance(message.get("tool_calls"), list) and message["tool_calls"]:
        content = ""
    if not isinstance(content, str):
        return None
    thought = next((message[name] for name in THOUGHTS if isinstance(message.get(name), str)), "")
    if message["role"] == "assistant" and thought.strip() and "</think>" not in content:
        return f"<think>\n{thought.strip()}\n</think>\n\n{content}"
    return content
