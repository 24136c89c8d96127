"""Which answers are kept; code really runs, in the sandbox."""

import asyncio

import pytest

from firsttoken.distill.servers.checks import Checker, check_names
from firsttoken.distill.servers.prompts import read_teacher_prompts
from firsttoken.distill.servers.reply import Answer
from firsttoken.errors import FirstTokenError
from firsttoken.evaluate.sandbox import Limits

MBPP = {"text": "Write a function double(x).", "test_list": ["assert double(2) == 4"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```python\ndef double(x):\n    return 2 * x\n```", ""),
        ("```python\ndef double(x):\n    return x ** 3\n```", "tests: "),
        ("```python\nwhile True: pass\n```", "tests: not finished after 2 s"),
        ("I cannot.", "tests: "),
    ],
)
def test_code_is_kept_that_passes_its_tests(text, said, prompts):
    [prompt] = read_teacher_prompts(prompts([MBPP]), ("tests",), None)
    wrong = asyncio.run(Checker(("tests",), 0, Limits(seconds=2)).wrong(prompt, Answer(text, "", "end", 9)))
    assert wrong.startswith(said) and bool(wrong) == bool(said)


def test_thoughts_are_no_answer(prompts):
    [prompt] = read_teacher_prompts(prompts([{"prompt": "2+2?", "reference": "4"}]), ("maths",), None)
    checker = Checker(("maths",), 0)
    for answer, said in (
        (Answer("So it is 4.", "or 5?", "end", 9), ""),
        (Answer("So it is 5.", "4", "end", 9), "another answer than the reference"),
        (Answer("", "4", "length", 9), "empty, stopped by length"),
    ):
        assert asyncio.run(checker.wrong(prompt, answer)) == said


def test_names_of_checks():
    assert check_names(("length", "maths", "maths")) == ("maths", "length")
    with pytest.raises(FirstTokenError, match="--check 'math' is unknown .did you mean 'maths'"):
        check_names(("math",))
