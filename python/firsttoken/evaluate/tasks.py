"""What is asked: ``kind=file`` on the command line, read and checked before any model is loaded."""

from dataclasses import dataclass
from pathlib import Path

from firsttoken.errors import FirstTokenError, nearest
from firsttoken.evaluate import choice, code, maths
from firsttoken.json_lines import json_lines, read_text
from firsttoken.safe_text import visible

KINDS = ("text", "maths", "choice", "code")
EXPECTED = {
    "maths": 'a question ("problem" or "question") and an "answer", as in MATH-500, GSM8K or AIME',
    "choice": '"question", "choices" and an "answer" (a place from 0, a letter, or the text)',
    "code": '"prompt", "test" and "entry_point" as in HumanEval, "text" and "test_list" as in MBPP, "question" and "input_output" as in APPS, or "question_content" and "public_test_cases" as in LiveCodeBench',
}
READERS = {"maths": maths.question, "choice": choice.read_question, "code": code.read_problem}


@dataclass(frozen=True)
class Task:
    """``name`` is the file's; ``text`` for perplexity, else ``items`` of the kind's own type."""

    kind: str
    name: str
    text: str = ""
    items: tuple = ()


def read_task(given: str, limit: int | None = None) -> Task:
    """Reads ``kind=file``, at most ``limit`` items of it. Raises `FirstTokenError` naming the line that does not fit."""
    kind, mark, file = given.partition("=")
    if not mark or kind not in KINDS:
        hint = nearest(kind, KINDS) if mark else ""
        raise FirstTokenError(f"task {given!r}: expected KIND=FILE with a kind of {', '.join(KINDS)}{hint}, like maths=problems.jsonl")
    path = Path(file)
    if kind == "text":
        return Task(kind, path.name, read_text(path))
    items = []
    for number, line in json_lines(path):
        try:
            item = READERS[kind](line)
        except ValueError as error:
            raise FirstTokenError(f"{path}, line {number}: {visible(error)}") from None
        if item is None:
            raise FirstTokenError(f"{path}, line {number}: has {', '.join(map(repr, line)) or 'nothing'}; expected {EXPECTED[kind]}")
        items.append(item)
        if len(items) == limit:
            break
    if not items:
        raise FirstTokenError(f"{path}: holds no questions; expected lines with {EXPECTED[kind]}")
    return Task(kind, path.name, items=tuple(items))
