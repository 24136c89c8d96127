"""Prompts for a teacher: a question or the turns of a chat in every line, and what goes with it into the training data."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firsttoken.distill.records import ANSWERS, KNOWN, ROLES, THOUGHTS
from firsttoken.distill.servers.reply import Answer
from firsttoken.errors import FirstTokenError
from firsttoken.evaluate import code, maths
from firsttoken.evaluate.livecodebench import PRIVATE, Contest
from firsttoken.json_lines import json_lines
from firsttoken.safe_text import visible
from firsttoken.special_tokens import LONE_SURROGATE

EXPECTED = '"prompt", "messages" that end with the user\'s turn, or a problem of maths or code'


@dataclass(frozen=True)
class Prompt:
    """What one line asks. ``fields`` are its others, which go along; ``reference`` and ``problem`` are what answers are checked with."""

    number: int
    messages: list[dict[str, Any]]
    fields: dict[str, Any]
    chat: bool  # the line has turns, not one question
    reference: str | None = None
    problem: code.Problem | Contest | None = None

    def line(self, answer: Answer) -> dict[str, Any]:
        """The answered prompt as a record of training data, with the teacher's thoughts in ``reasoning_content``."""
        thought = {"reasoning_content": answer.thought} if answer.thought else {}
        if self.chat:
            return {**self.fields, "messages": [*self.messages, {"role": "assistant", "content": answer.text, **thought}]}
        system = {"system": self.messages[0]["content"]} if self.messages[0]["role"] == "system" else {}
        return {**self.fields, **system, "prompt": self.messages[-1]["content"], "answer": answer.text, **thought}


def read_teacher_prompts(path: Path, checks: tuple[str, ...], system: str | None) -> list[Prompt]:
    """Reads JSONL; ``system`` is the system turn of lines without one of their own. Raises `FirstTokenError` naming the line.

    The check ``maths`` needs a ``reference`` in every line (or the answer of a line in the formats of MATH, GSM8K or AIME), ``tests`` a problem in
    the format of HumanEval, MBPP or APPS, which is then asked as `evaluate` asks it.
    """
    found = [_prompt(number, line, f"{path}, line {number}", checks, system) for number, line in json_lines(path)]
    if not found:
        raise FirstTokenError(f"{path}: holds no prompts; expected lines with {EXPECTED}")
    return found


def _prompt(number: int, line: dict[str, Any], place: str, checks: tuple[str, ...], system: str | None) -> Prompt:
    try:
        problem = code.read_problem(line) if "tests" in checks else None
    except ValueError as error:  # faulty tests of LiveCodeBench's form
        raise FirstTokenError(f"{place}: {visible(error)}") from None
    if "tests" in checks and problem is None:
        raise FirstTokenError(
            f"{place}: --check tests needs a problem in the format of HumanEval, MBPP, APPS or LiveCodeBench in every line"
        )
    maths_problem = maths.question(line)
    own = line.get("reference")
    reference = own if isinstance(own, str) else (maths_problem[1] if maths_problem else None)
    if reference is not None and ("boxed" in reference or "####" in reference):
        reference = maths.extract(reference)
    if "maths" in checks and reference is None:
        raise FirstTokenError(f'{place}: --check maths needs the right answer in "reference" in every line')
    chat = problem is None and isinstance(line.get("messages"), list)
    if problem is not None:
        turns: list[dict[str, Any]] = [{"role": "user", "content": code.request(problem, chat=True)}]
    elif chat:
        turns = line["messages"]
    else:
        asked = line["prompt"] if isinstance(line.get("prompt"), str) else (maths_problem[0] if maths_problem else None)
        if asked is None:
            raise FirstTokenError(f"{place}: has {', '.join(visible(repr(key), 40) for key in line) or 'nothing'}; expected {EXPECTED}")
        turns = [{"role": "user", "content": asked}]
    _check_turns(turns, place)
    if LONE_SURROGATE.search(json.dumps([turns, line], ensure_ascii=False)):
        raise FirstTokenError(f"{place}: holds half a character (a lone surrogate), which cannot be sent or written; correct the line")
    begun = line["system"] if isinstance(line.get("system"), str) and line["system"].strip() else system
    if begun and turns[0]["role"] != "system":
        turns = [{"role": "system", "content": begun}, *turns]
    # what would be read as another form of record, or as the answer, does not go along; nor do private tests, megabytes a line that a student must not see
    fields = {name: value for name, value in line.items() if name not in (*KNOWN, *ANSWERS, *THOUGHTS, "system", "input", PRIVATE)}
    if "maths" in checks:
        fields["reference"] = reference
    return Prompt(number, turns, fields, chat, reference, problem)


def _check_turns(turns: list[Any], place: str) -> None:
    for turn in turns:
        if not isinstance(turn, dict) or turn.get("role") not in ROLES or not isinstance(turn.get("content"), str | list):
            raise FirstTokenError(
                f'{place}: a message is {visible(str(turn), 80)}; expected "role" (one of {", ".join(ROLES)}) and "content"'
            )
    if not turns or turns[-1]["role"] not in ("user", "tool"):
        raise FirstTokenError(f"{place}: the last message is not the user's; the teacher has nothing to answer")
