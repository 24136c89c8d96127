"""pass@k on code: a program is put together from the prompt and what the model wrote, and run in the sandbox with its tests.

Formats: HumanEval (``prompt``, ``test``, ``entry_point``; Chen et al., arXiv:2107.03374), MBPP (``text`` or ``prompt``,
``test_list``; Austin et al., arXiv:2108.07732), APPS (``question``, ``input_output``; Hendrycks et al., arXiv:2105.09938), whose
programs read standard input, and LiveCodeBench (`livecodebench`).
"""

import ast
import re
import textwrap
from dataclasses import dataclass

from firsttoken.evaluate import livecodebench
from firsttoken.evaluate.livecodebench import Contest
from firsttoken.evaluate.sandbox import Limits, Outcome, run_program, run_with_input
from firsttoken.plain_file import parse_json

FENCE = re.compile(r"```[ \t]*(?:python3?|py)?[ \t]*\n(.*?)(?:\n[ \t]*```|```\s*\Z|\Z)", re.DOTALL | re.IGNORECASE)
# Where a completion of a function's body goes on to something else (HumanEval's own stop sequences).
STOPS = ("\nclass ", "\ndef ", "\n#", "\nif __name__", "\nprint(", "\n@", "\nassert ", "\n```")


@dataclass(frozen=True)
class Problem:
    """``asked`` is shown to the model; ``start`` the code that a completion goes on from; ``tests`` raise where it is wrong.

    ``inputs`` are given to the whole program instead, one run each, with what it has to print.
    """

    asked: str
    start: str
    tests: str
    entry: str | None
    inputs: tuple[tuple[str, str], ...] = ()


def read_problem(line: dict) -> Problem | Contest | None:
    """Reads a line in the format of HumanEval, MBPP, APPS or LiveCodeBench; None for anything else. Raises `ValueError` for a faulty line of the last."""
    if livecodebench.is_contest(line):
        return livecodebench.read_contest(line)
    if isinstance(line.get("entry_point"), str) and isinstance(line.get("prompt"), str) and isinstance(line.get("test"), str):
        entry = line["entry_point"]
        return Problem(line["prompt"], line["prompt"], f"{line['test']}\ncheck({entry})\n", entry)
    if isinstance(line.get("question"), str):
        inputs = read_inputs(line.get("input_output"))
        asked = f"{line['question']}\nRead from standard input and print the answer.\n"
        return Problem(asked, "", "", None, inputs) if inputs else None
    task = next((line[key] for key in ("text", "prompt") if isinstance(line.get(key), str)), None)
    tests = line.get("test_list")
    if task is None or not isinstance(tests, list) or not tests or not all(isinstance(test, str) for test in tests):
        return None
    imports = line.get("test_imports")
    setup = line.get("test_setup_code") or ("\n".join(map(str, imports)) if isinstance(imports, list) else "")
    shown = "\n".join(tests)
    return Problem(f"{task}\nYour code should pass these tests:\n{shown}\n", "", f"{setup}\n{shown}\n", None)


def read_inputs(given: object) -> tuple[tuple[str, str], ...]:
    """Pairs of input and output of APPS, which writes them as JSON in a string; empty for anything else."""
    if isinstance(given, str):
        try:
            given = parse_json(given)
        except ValueError:
            return ()
    if not isinstance(given, dict) or "fn_name" in given:
        return ()
    inputs, outputs = given.get("inputs"), given.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        return ()
    pairs = tuple(zip(inputs, outputs, strict=True))
    return pairs if all(isinstance(text, str) for pair in pairs for text in pair) else ()


def judge(problem: Problem | Contest, answer: str, chat: bool, limits: Limits) -> Outcome:
    """Runs what the model wrote against the problem's tests. Raises `FirstTokenError` where this system cannot sandbox."""
    if isinstance(problem, Contest):
        return livecodebench.judge(problem, contest_program(problem, answer, chat), limits)
    code = program(problem, answer, chat)
    for number, (text, expected) in enumerate(problem.inputs):
        printed, why = run_with_input(code, text, limits, 2 * len(expected.encode()))
        if printed is None:
            return Outcome(False, f"input {number}: {why}")
        if printed.split() != expected.split():
            return Outcome(False, f"input {number}: printed something else than expected")
    if problem.inputs:
        return Outcome(True)
    return run_program(code, problem.tests, limits, [problem.entry] if problem.entry else called_first(problem.tests))


def called_first(tests: str) -> list[str]:
    """The functions that the asserts are about, ``f`` in ``assert f(1) == 2``: what MBPP asks for has no other name."""
    try:
        asserts = [node.test for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Assert)]
    except SyntaxError:
        return []
    firsts = [test.left if isinstance(test, ast.Compare) else test for test in asserts]
    return [call.func.id for call in firsts if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)]


def request(problem: Problem | Contest, chat: bool) -> str:
    """What the model is given: a task in words for a chat, the code itself to go on with otherwise."""
    if isinstance(problem, Contest):
        return livecodebench.request(problem, chat)
    if not chat:
        return problem.start or f'"""\n{problem.asked}"""\n'
    if problem.start:
        return (
            f"Complete this Python function. Answer with the whole function in one code block.\n\n```python\n{problem.start.rstrip()}\n```"
        )
    return f"{problem.asked}\nAnswer with Python code in one code block."


def program(problem: Problem, answer: str, chat: bool) -> str:
    """The program without its tests. A code block is taken as it is where it defines the function, else as the rest of the prompt.

    What is written before ``</think>`` does not count where something follows, nor, without a ``chat``, what follows the code.
    """
    answer = thought_out(answer)
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
    return code


def contest_program(problem: Contest, answer: str, chat: bool) -> str:
    """The last code block of an answer, as LiveCodeBench takes it; without one, the answer itself, after the starter code where it goes on from it."""
    answer = thought_out(answer)
    blocks = blocks_of(answer, None) if chat or answer.lstrip().startswith("```") else []
    if blocks:
        return blocks[-1]
    return answer if chat else problem.starter + cut_block(answer)


def thought_out(answer: str) -> str:
    """What comes after ``</think>``, or all of it where nothing does."""
    answer = answer.replace("\r\n", "\n")
    after = answer.rpartition("</think>")[2]
    return after if after.strip() else answer


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
