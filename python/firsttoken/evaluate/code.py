"""pass@1 on code: a program is put together from the prompt, what the model wrote and the tests, and run in the sandbox.

Formats: HumanEval (``prompt``, ``test``, ``entry_point``; Chen et al., arXiv:2107.03374) and MBPP (``text`` or ``prompt``,
``test_list``; Austin et al., arXiv:2108.07732).
"""

import re
import textwrap
from dataclasses import dataclass

FENCE = re.compile(r"```[ \t]*(?:python3?|py)?[ \t]*\n(.*?)(?:\n[ \t]*```|```\s*\Z|\Z)", re.DOTALL | re.IGNORECASE)
# Where a completion of a function's body goes on to something else (HumanEval's own stop sequences).
STOPS = ("\nclass ", "\ndef ", "\n#", "\nif __name__", "\nprint(", "\n@", "\nassert ", "\n```")


@dataclass(frozen=True)
class Problem:
    """``asked`` is shown to the model; ``start`` the code that a completion goes on from; ``tests`` raise where it is wrong."""

    asked: str
    start: str
    tests: str
    entry: str | None


def read_problem(line: dict) -> Problem | None:
    """Reads a line in the format of HumanEval or MBPP; None for anything else."""
    if isinstance(line.get("entry_point"), str) and isinstance(line.get("prompt"), str) and isinstance(line.get("test"), str):
        entry = line["entry_point"]
        return Problem(line["prompt"], line["prompt"], f"{line['test']}\ncheck({entry})\n", entry)
    asked = next((line[key] for key in ("text", "prompt") if isinstance(line.get(key), str)), None)
    tests = line.get("test_list")
    if asked is None or not isinstance(tests, list) or not tests or not all(isinstance(test, str) for test in tests):
        return None
    setup = line.get("test_setup_code") or "\n".join(line.get("test_imports") or [])
    shown = "\n".join(tests)
    return Problem(f"{asked}\nYour code should pass these tests:\n{shown}\n", "", f"{setup}\n{shown}\n", None)


def request(problem: Problem, chat: bool) -> str:
    """What the model is given: a task in words for a chat, the code itself to go on with otherwise."""
    if not chat:
        return problem.start or f'"""\n{problem.asked}"""\n'
    if problem.start:
        return (
            f"Complete this Python function. Answer with the whole function in one code block.\n\n```python\n{problem.start.rstrip()}\n```"
        )
    return f"{problem.asked}\nAnswer with Python code in one code block."


def program(problem: Problem, answer: str, chat: bool) -> str:
    """The whole program. A code block is taken as it is where it defines the function, else as the rest of the prompt.

    What is written before ``</think>`` does not count where something follows, nor, without a ``chat``, what follows the code.
    """
    answer = answer.replace("\r\n", "\n")
    after = answer.rpartition("</think>")[2]
    answer = after if after.strip() else answer
    blocks = blocks_of(answer, problem.entry) if chat or answer.lstrip().startswith("```") else []
    if blocks:
        code = max(blocks, key=len) if problem.entry is None else next((b for b in blocks if defines(b, problem.entry)), blocks[0])
    else:
        code = answer
    if problem.entry is not None and defines(code, problem.entry):
        # imports and functions that the prompt has before it still count
        lead = re.split(rf"^(?:async )?def {re.escape(problem.entry)}\b", problem.start, maxsplit=1, flags=re.MULTILINE)[0]
        code = f"{lead}\n{code}"
    elif problem.entry is not None:
        code = problem.start + (code if blocks else cut(code))
    elif not blocks and not chat:
        code = cut_block(code)
    return f"{code}\n\n{problem.tests}"


def blocks_of(answer: str, entry: str | None) -> list[str]:
    """The code blocks of an answer; whole programs are brought to the left, a function's body stays where it is."""
    blocks = []
    for block in FENCE.findall(answer):
        flat = textwrap.dedent(block)
        blocks.append(flat if entry is None or defines(flat, entry) else block)
    return blocks


def defines(code: str, name: str) -> bool:
    return re.search(rf"^(?:async )?def {re.escape(name)}\b", code, re.MULTILINE) is not None


def cut(completion: str) -> str:
    """A function's body, up to where the model goes on to something else."""
    places = [place for stop in STOPS if (place := completion.find(stop)) >= 0]
    return completion[: min(places)] if places else completion


def cut_block(completion: str) -> str:
    """Code without what follows a fence or a new docstring task."""
    return re.split(r'\n```|\n"""', completion)[0]
