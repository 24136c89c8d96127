"""LiveCodeBench's problems (Jain et al., arXiv:2403.07974): whole programs that read standard input, and methods of ``class Solution``.

What is printed is compared as its own checker does, and its own names are there for the program; see `same_output` and `PRELUDE`. Its
private tests come as pickles. These are never loaded: `pickled_text` reads the one string that they hold, and refuses any other pickle.
"""

import base64
import binascii
import json
import pickletools
import zlib
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from firsttoken.evaluate.sandbox import Limits, Outcome, run_program, run_with_input
from firsttoken.plain_file import parse_json
from firsttoken.special_tokens import LONE_SURROGATE
from firsttoken.units import readable

# What its checker has in scope: a solution of LeetCode's kind takes List and heappush for given.
STARRED = ("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics", "itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing")  # fmt: skip
PRELUDE = "".join(f"from {name} import *\n" for name in STARRED) + f"import {', '.join(STARRED[:-2])}\nsys.setrecursionlimit(50000)\n"
# A pickle of one string has these and no others; none of them imports or calls anything.
HARMLESS = {"PROTO", "FRAME", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "STOP"}
PRIVATE = "private_test_cases"
MOST_TESTS = 512 << 20  # bytes of one problem's private tests, unpacked
START_SECONDS = 2.0  # for both of the sandbox's processes to start, beside the tests' own time


@dataclass(frozen=True)
class Contest:
    """``tests`` are pairs of input and output; ``method`` is what they call, with one JSON value a line, or None where a program reads its input."""

    asked: str
    starter: str
    method: str | None
    tests: tuple[tuple[str, str], ...]


def is_contest(line: dict) -> bool:
    return isinstance(line.get("question_content"), str) and "public_test_cases" in line


def read_contest(line: dict) -> Contest:
    """Reads a line of LiveCodeBench's files. Raises `ValueError` saying what of it is wrong."""
    cases = [*test_cases(line, "public_test_cases"), *test_cases(line, PRIVATE)]
    if not cases:
        raise ValueError(f"has no tests; expected some in public_test_cases or {PRIVATE}")
    kinds = {case["testtype"] for case in cases}
    if len(kinds) > 1 or not kinds <= {"stdin", "functional"}:
        raise ValueError(f"has tests of type {', '.join(sorted(map(repr, kinds)))}; expected all stdin, or all functional")
    method = None
    if kinds == {"functional"}:
        metadata = decoded(line, "metadata") if "metadata" in line else {}
        method = metadata.get("func_name") if isinstance(metadata, dict) else None
        if not isinstance(method, str) or not method.isidentifier():
            raise ValueError(f"has functional tests, and {method!r} as func_name in its metadata; expected a method's name")
        for case in cases:
            checked_values(case)
    starter = line.get("starter_code")
    return Contest(
        line["question_content"],
        starter if isinstance(starter, str) else "",
        method,
        tuple((case["input"], case["output"]) for case in cases),
    )


def test_cases(line: dict, key: str) -> list[dict[str, str]]:
    """The tests of one field: JSON, as text or not, or base64 of zlib of a pickle of such text."""
    value = line.get(key, [])
    if isinstance(value, str) and not value.lstrip().startswith("["):
        try:
            value = parse_json(pickled_text(unpacked(base64.b64decode(value, validate=True))))
        except (ValueError, binascii.Error) as error:
            raise ValueError(f"{key}: {error}") from None
    else:
        value = decoded(line, key) if key in line else []
    fields = ("input", "output", "testtype")
    if not isinstance(value, list) or not all(
        isinstance(case, dict) and all(isinstance(case.get(f), str) for f in fields) for case in value
    ):
        raise ValueError(f"{key}: expected a list of objects with the texts {', '.join(fields)}")
    for case in value:
        for field in fields:
            if LONE_SURROGATE.search(case[field]):
                raise ValueError(f"{key}: {field} holds half a character (a lone surrogate), which no program can read or print")
    return value


def decoded(line: dict, key: str) -> Any:
    """A field that is JSON, or a text that holds it."""
    value = line[key]
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except ValueError as error:
        raise ValueError(f"{key}: not JSON ({error})") from None


def checked_values(case: dict[str, str]) -> None:
    """Raises `ValueError` unless a functional test's input is one JSON value a line and its output one."""
    for text in (*case["input"].split("\n"), case["output"]):
        try:
            parse_json(text)
        except ValueError:
            raise ValueError(f"a functional test holds {text[:80]!r}; expected JSON") from None


def unpacked(data: bytes) -> bytes:
    """What zlib packed. Raises `ValueError` for other data, and for more than `MOST_TESTS`."""
    stream = zlib.decompressobj()
    try:
        made = stream.decompress(data, MOST_TESTS)
    except zlib.error as error:
        raise ValueError(f"not JSON, nor base64 of zlib ({error})") from None
    if stream.unconsumed_tail:
        raise ValueError(f"unpacks to more than {readable(MOST_TESTS)}")
    if not stream.eof:
        raise ValueError("is cut off in the middle; copy the file again")
    return made


def pickled_text(data: bytes) -> str:
    """The one string that a pickle holds, found by reading its opcodes. Nothing is unpickled. Raises `ValueError` for any other pickle."""
    texts = []
    try:
        for opcode, value, _ in pickletools.genops(data):
            if opcode.name not in HARMLESS:
                raise ValueError(
                    f"is a pickle with the instruction {opcode.name}; only one string is read from a pickle, since loading another may run any program"
                )
            if "UNICODE" in opcode.name:
                texts.append(value)
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(str(error) if "instruction" in str(error) else f"is no pickle ({error})") from None
    if len(texts) != 1:
        raise ValueError(f"is a pickle of {len(texts)} strings; expected one")
    return str(texts[0])


def request(problem: Contest, chat: bool) -> str:
    """What the model is given: words for a chat, a docstring and the code's beginning otherwise."""
    how = (
        "Complete the starter code."
        if problem.starter
        else "Read the input from standard input and print the answer to standard output. Do not test on the examples in the code."
    )
    if not chat:
        return f'"""\n{problem.asked}\n\n{how}\n"""\n{problem.starter}'
    starter = f"\n\n```python\n{problem.starter.rstrip()}\n```" if problem.starter else ""
    return f"{problem.asked}\n\n{how} Answer with the whole Python program in one code block.{starter}"


def judge(problem: Contest, code: str, limits: Limits) -> Outcome:
    """Runs a program against all tests; ``limits.seconds`` are for each of them, as there. Raises `FirstTokenError` where nothing can be sandboxed."""
    code = f"{PRELUDE}\n{code}"
    if problem.method is not None:
        whole = Limits(START_SECONDS + limits.seconds * len(problem.tests), limits.memory)
        return run_program(code, functional_tests(problem, limits.seconds), whole, ["Solution", problem.method])
    for number, (text, expected) in enumerate(problem.tests):
        printed, why = run_with_input(code, text, limits, 2 * len(expected.encode()))
        if printed is None:
            return Outcome(False, f"test {number}: {why}")
        if not same_output(printed, expected):
            return Outcome(False, f"test {number}: printed something else than expected")
    return Outcome(True)


def functional_tests(problem: Contest, seconds: float) -> str:
    """The tests' program: one object for all of them, a tuple is as good as a list, and each call has its own time."""
    cases = [[[parse_json(value) for value in given.split("\n")], parse_json(output)] for given, output in problem.tests]
    return f"""import json
import signal

def late(*_):
    raise TimeoutError("not finished after {seconds:g} s")

try:
    owner = Solution()
    method = owner.{problem.method}
except NameError:
    method = {problem.method}
signal.signal(signal.SIGALRM, late)
for number, (given, wanted) in enumerate(json.loads({json.dumps(cases)!r})):
    signal.setitimer(signal.ITIMER_REAL, {seconds!r})
    found = method(*given)
    signal.setitimer(signal.ITIMER_REAL, 0)
    found = list(found) if isinstance(found, tuple) else found
    assert found == wanted, f"test {{number}}: returned something else than expected"
"""


def same_output(printed: str, expected: str) -> bool:
    """Whether two outputs are one to LiveCodeBench's checker: as many lines, each equal without the space around it, or number by number in decimals."""
    ours, theirs = (text.strip().split("\n") for text in (printed, expected))
    return len(ours) == len(theirs) and all(same_line(a.strip(), b.strip()) for a, b in zip(ours, theirs, strict=True))


def same_line(ours: str, theirs: str) -> bool:
    if ours == theirs:
        return True
    try:
        return [Decimal(word) for word in ours.split()] == [Decimal(word) for word in theirs.split()]
    except (InvalidOperation, ValueError):  # a signalling NaN compares with nothing
        return False
