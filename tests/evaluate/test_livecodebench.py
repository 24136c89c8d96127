"""LiveCodeBench's lines read without loading a pickle, and answers judged as its own checker judges them."""

import base64
import json
import pickle
import zlib

import pytest

from firsttoken.errors import FirstTokenError
from firsttoken.evaluate.code import judge, read_problem, request
from firsttoken.evaluate.livecodebench import Contest, pickled_text, same_output
from firsttoken.evaluate.sandbox import Limits
from firsttoken.evaluate.tasks import read_task

LIMITS = Limits(3, 512 << 20)


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def private(cases: list[dict], protocol: int = pickle.DEFAULT_PROTOCOL) -> str:
    """As the data set packs them."""
    return packed(pickle.dumps(json.dumps(cases), protocol))


def case(given: str, output: str, kind: str) -> dict:
    return {"input": given, "output": output, "testtype": kind}


def stdin_line(**changed) -> dict:
    hidden = [case("10\n20\n", "30", "stdin"), case("-1\n1\n", "0\n", "stdin")]
    line = {
        "question_content": "Add two numbers, one a line.",
        "starter_code": "",
        "public_test_cases": json.dumps([case("1\n2\n", "3\n", "stdin")]),
        "private_test_cases": private(hidden),
        "metadata": "{}",
    }
    return line | changed


def functional_line(**changed) -> dict:
    line = {
        "question_content": "The places of two numbers with this sum.",
        "starter_code": "class Solution:\n    def twoSum(self, nums: List[int], target: int) -> List[int]:\n        ",
        "public_test_cases": json.dumps([case("[2, 7, 11, 15]\n9", "[0, 1]", "functional")]),
        "private_test_cases": private([case("[3, 3]\n6", "[0, 1]", "functional"), case("[1, 5, 6]\n11", "[1, 2]", "functional")]),
        "metadata": json.dumps({"func_name": "twoSum"}),
    }
    return line | changed


BODY = "for a, b in combinations(range(len(nums)), 2):\n            if nums[a] + nums[b] == target:\n                return "
SOLUTION = f"class Solution:\n    def twoSum(self, nums: List[int], target: int) -> List[int]:\n        {BODY}"


def block(code: str) -> str:
    return f"```python\n{code}\n```"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_private_tests_are_read_without_unpickling(protocol):
    cases = [case("é\n1\n", "x" * 70_000, "stdin")]
    problem = read_problem(stdin_line(private_test_cases=private(cases, protocol)))
    assert isinstance(problem, Contest) and problem.method is None
    assert problem.tests == (("1\n2\n", "3\n"), ("é\n1\n", "x" * 70_000))


class Evil:
    def __reduce__(self):
        return eval, ("__import__('pathlib').Path('loaded').touch()",)


@pytest.mark.parametrize(
    "value,said",
    [
        (packed(pickle.dumps(Evil())), "instruction .*GLOBAL; only one string is read"),
        (packed(pickle.dumps(Evil(), 0)), "instruction GLOBAL"),
        (packed(pickle.dumps(["[]"])), "instruction EMPTY_LIST"),
        (packed(pickle.dumps("{}")), "expected a list of objects with the texts input, output, testtype"),
        (packed(pickle.dumps("[")), "private_test_cases"),
        (packed(pickle.dumps("[]")[:-1]), "is no pickle"),
        (packed(b""), "is no pickle"),
        (packed(pickle.dumps("[]"))[:-8], "cut off in the middle"),
        (base64.b64encode(b"not zlib").decode(), "not JSON, nor base64 of zlib"),
        ("!!", "private_test_cases"),
        ("[", "private_test_cases: not JSON"),
        (7, "expected a list of objects"),
        (private([case("\ud800", "1", "stdin")]), "input holds half a character"),
        (json.dumps([{"input": "1"}]), "expected a list of objects"),
        (private([case("1", "1", "files")]), "tests of type 'files', 'stdin'; expected all stdin, or all functional"),
    ],
)
def test_other_private_tests_are_refused_and_nothing_runs(tmp_path, monkeypatch, value, said):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "lcb.jsonl"
    path.write_text(json.dumps(stdin_line(private_test_cases=value)) + "\n")
    with pytest.raises(FirstTokenError, match=said) as caught:
        read_task(f"code={path}")
    assert f"{path}, line 1" in str(caught.value) and not (tmp_path / "loaded").exists()


def test_a_bomb_is_not_unpacked(monkeypatch):
    from firsttoken.evaluate import livecodebench

    monkeypatch.setattr(livecodebench, "MOST_TESTS", 1 << 20)
    with pytest.raises(ValueError, match="unpacks to more than"):
        read_problem(stdin_line(private_test_cases=packed(pickle.dumps("1" * (2 << 20)))))


@pytest.mark.parametrize(
    "changed,said",
    [
        ({"metadata": "{}"}, "None as func_name"),
        ({"metadata": '{"func_name": "a b"}'}, "'a b' as func_name"),
        ({"private_test_cases": private([case("[1", "2", "functional")])}, "holds '\\[1'; expected JSON"),
        ({"private_test_cases": private([]), "public_test_cases": "[]"}, "has no tests"),
    ],
)
def test_faulty_functional_lines(changed, said):
    with pytest.raises(ValueError, match=said):
        read_problem(functional_line(**changed))


def test_two_strings_are_not_one():
    with pytest.raises(ValueError, match="instruction|2 strings"):
        pickled_text(pickle.dumps(("a", "b")))


@pytest.mark.parametrize(
    "line,answer,chat,passes",
    [
        (stdin_line(), block("print(int(input()) + int(input()))"), True, True),
        (stdin_line(), block("print(sum(map(int, stdin.read().split())))"), True, True),  # a name of the prelude
        (stdin_line(), block("print(0)") + "\nBetter:\n" + block("if __name__ == '__main__':\n    print(int(input()) + int(input()))"), True, True),
        (stdin_line(), block("print(int(input()) + int(input()))") + "\nOr not:\n" + block("print(3)"), True, False),  # the last one counts
        (stdin_line(), block("print(3)"), True, False),
        (stdin_line(), block("print(float(input()) + float(input()))"), True, True),  # 3.0 is 3, as decimals
        (stdin_line(), block("print(int(input()) + int(input()))\nprint()\nprint('done')"), True, False),
        (stdin_line(), "print(int(input()) + int(input()))\n```\nThis adds.", False, True),
        (functional_line(), block(f"{SOLUTION}[a, b]"), True, True),
        (functional_line(), block(f"{SOLUTION}(a, b)"), True, True),  # a tuple is as good as a list
        (functional_line(), block(f"{SOLUTION}[b, a]"), True, False),
        (functional_line(), block(SOLUTION.replace("class Solution:\n    ", "").replace("self, ", "").replace("\n    ", "\n") + "[a, b]"), True, True),
        (functional_line(), f"{BODY}[a, b]\n", False, True),
        (functional_line(), block("class Solution:\n    def other(self):\n        return []"), True, False),
        (functional_line(), block("def"), True, False),
        (functional_line(), "I cannot.", True, False),
    ],
)  # fmt: skip
def test_answers(line, answer, chat, passes):
    outcome = judge(read_problem(line), answer, chat, LIMITS)
    assert outcome.passed == passes, outcome


def test_each_functional_test_has_its_own_time():
    problem = read_problem(functional_line())
    slow = f"{SOLUTION}[a, b]".replace(BODY, "import time; time.sleep(0.4)\n        " + BODY)
    assert judge(problem, block(slow), True, Limits(1.0, 512 << 20)).passed  # 1.2 s together
    late = judge(problem, block(slow), True, Limits(0.2, 512 << 20))
    assert not late.passed and "not finished after 0.2 s" in late.why


def test_a_long_output_is_compared_to_its_end():
    wanted = "\n".join(["1234567890"] * 120_000)
    problem = Contest("", "", None, (("", wanted),))
    assert judge(problem, block("print('1234567890\\n' * 120000)"), True, LIMITS).passed
    assert not judge(problem, block("print('1234567890\\n' * 119999 + '1234567891')"), True, LIMITS).passed


@pytest.mark.parametrize(
    "printed,expected,same",
    [
        ("3\n", "3", True),
        ("\n 1 2 \n3\n\n", "1 2\n3", True),
        ("1  2", "1 2", True),  # as decimals
        ("a  b", "a b", False),
        ("1.0 2.50", "1 2.5", True),
        ("1e3", "1000", True),
        ("50000000000000000", "50000000000000001", False),
        ("0.1000000001", "0.1", False),
        ("1\n2", "1 2", False),
        ("YES", "yes", False),
        ("", "", True),
        ("nan", "NaN", False),
        ("sNaN", "1", False),
    ],
)
def test_outputs(printed, expected, same):
    assert same_output(printed, expected) == same


def test_requests_show_the_task_and_the_starter():
    chat, raw = (request(read_problem(functional_line()), way) for way in (True, False))
    assert "sum" in chat and "def twoSum" in chat and "one code block" in chat
    assert raw.endswith(functional_line()["starter_code"]) and "sum" in raw
    assert "standard input" in request(read_problem(stdin_line()), True)
