"""Programs put together from what a model wrote, in a chat and as plain continuation."""

import pytest

from firsttoken.evaluate.code import judge, read_problem, request
from firsttoken.evaluate.sandbox import Limits

HUMANEVAL = {
    "task_id": "t/0",
    "prompt": 'from typing import List\n\n\ndef add(a: int, b: int) -> int:\n    """Adds."""\n',
    "entry_point": "add",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(-1, 1) == 0\n",
}
HELPED = {
    "prompt": 'def add(a, b):\n    return a + b\n\n\ndef twice(a):\n    """Uses add."""\n',
    "entry_point": "twice",
    "test": "def check(candidate):\n    assert candidate(3) == 6\n",
}
MBPP = {"task_id": 1, "text": "Write a function double(x).", "test_list": ["assert double(2) == 4", "assert double(0) == 0"]}


SHADOW = {"text": "Write a function to add two numbers.", "test_list": ["assert sum(10, 15) == 25", "assert sum(-1, 1) == 0"]}
PAIRS = {"text": "Longest chain of pairs.", "test_list": ["assert longest([Pair(5, 24), Pair(1, 2)], 2) == 24"]}
PAIR_ANSWER = """class Pair(object):
    def __init__(self, a, b):
        self.a, self.b = a, b

def longest(pairs, count):
    return max(pair.b for pair in pairs)
"""
APPS = {"question": "Add the numbers of a line.", "input_output": '{"inputs": ["1 2\\n", "5 -3 2\\n"], "outputs": ["3\\n", "4"]}'}


@pytest.mark.parametrize(
    "line,answer,chat,passes",
    [
        (HUMANEVAL, "    return a + b\n", False, True),
        (HUMANEVAL, "    return a + b\n\n\ndef other():\n    return undefined(\n", False, True),  # goes on to something else
        (HUMANEVAL, "    return a - b\n", False, False),
        (HUMANEVAL, "```python\ndef add(a, b):\n    return a + b\n```", True, True),
        (HUMANEVAL, "Sure!\n```python\ndef add(a: int, b: int) -> int:\n    x: List = [a, b]\n    return sum(x)\n```\nDone.", True, True),
        (HUMANEVAL, "```\n    return a + b\n```", True, True),
        (HUMANEVAL, "```python\ndef add(a, b):\n    return a + b", True, True),  # cut off before the fence
        (HUMANEVAL, "def add(a, b):\n    return a + b", True, True),
        (HUMANEVAL, "```python\r\ndef add(a, b):\r\n    return a + b\r\n```", True, True),
        (HUMANEVAL, "1. So:\n   ```Python\n   def add(a, b):\n       return a + b\n   ```", True, True),
        (HUMANEVAL, "```python\ndef add(a, b):\n    return a + b```", True, True),
        (
            HUMANEVAL,
            "<think>\n```python\ndef add(a, b):\n    return 0\n```\n</think>\n```python\ndef add(a, b):\n    return a + b\n```",
            True,
            True,
        ),
        (HUMANEVAL, "    return a + b\n```\nThis adds.", False, True),
        (HELPED, "```python\ndef twice(a):\n    return add(a, a)\n```", True, True),
        (HELPED, "    return add(a, a)\n", False, True),
        (HUMANEVAL, "I cannot.", True, False),
        (HUMANEVAL, "", False, False),
        (MBPP, "```python\ndef double(x):\n    return 2 * x\n```", True, True),
        (MBPP, "Example:\n```python\nx = 1\n```\nThe function:\n```python\ndef double(x):\n    return 2 * x\n```", True, True),
        (MBPP, "def double(x):\n    return 2 * x\n", False, True),
        (MBPP, "def double(x):\n    return x\n", False, False),
        (SHADOW, "def sum(a, b):\n    return a + b\n", False, True),
        (SHADOW, "pass", False, False),
        (PAIRS, PAIR_ANSWER, False, True),
        (APPS, "```python\nprint(sum(map(int, input().split())))\n```", True, True),
        (APPS, "```python\nimport sys\nprint(sum(map(int, sys.stdin.read().split())), end='')\n```", True, True),
        (APPS, "```python\nprint(3)\n```", True, False),
        (APPS, "```python\nwhile True:\n    input()\n```", True, False),
    ],
)
def test_programs(line, answer, chat, passes):
    assert judge(read_problem(line), answer, chat, Limits(5, 512 << 20)).passed == passes


def test_requests_show_the_task():
    assert request(read_problem(HUMANEVAL), False) == HUMANEVAL["prompt"]
    assert "def add" in request(read_problem(HUMANEVAL), True) and "double(2) == 4" in request(read_problem(MBPP), True)


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"prompt": "x"},
        {"text": "x", "test_list": []},
        {"text": "x", "test_list": [1]},
        {"question": "x", "input_output": "{"},
        {"question": "x", "input_output": {"inputs": ["1"], "outputs": []}},
        {"question": "x", "input_output": {"inputs": ["1"], "outputs": ["1"], "fn_name": "f"}},
    ],
)
def test_other_lines_are_not_problems(line):
    assert read_problem(line) is None
