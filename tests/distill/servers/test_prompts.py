"""Prompts of every form, and what goes along into the training data."""

import json

import pytest

from firsttoken.distill.servers.prompts import read_teacher_prompts
from firsttoken.distill.servers.reply import Answer
from firsttoken.errors import FirstTokenError

ANSWER = Answer("four", "hm", "end", 3)


def test_problems_of_maths_keep_the_right_answer_apart_from_the_teachers(prompts):
    [gsm, own] = read_teacher_prompts(
        prompts([{"question": "2+2?", "answer": "So\n#### 4"}, {"prompt": "1/2?", "reference": r"It is \boxed{\frac12}", "domain": "d"}]),
        ("maths",),
        None,
    )
    assert (gsm.reference, own.reference) == ("4", r"\frac12")
    assert gsm.line(ANSWER) == {"question": "2+2?", "reference": "4", "prompt": "2+2?", "answer": "four", "reasoning_content": "hm"}
    assert own.line(ANSWER)["reference"] == r"\frac12" and own.line(ANSWER)["domain"] == "d"


def test_a_problem_of_code_is_asked_as_evaluate_asks_it(prompts):
    mbpp = {"text": "Write a function double(x).", "test_list": ["assert double(2) == 4"], "task_id": 1}
    [prompt] = read_teacher_prompts(prompts([mbpp]), ("tests",), None)
    assert (
        prompt.messages[0]["content"].endswith("Answer with Python code in one code block.")
        and "assert double(2) == 4" in prompt.messages[0]["content"]
    )
    line = prompt.line(ANSWER)
    assert "text" not in line and line["task_id"] == 1  # else the record would be read as plain text


def test_private_tests_do_not_go_along_into_training_data(prompts):
    from firsttoken.evaluate.code import read_problem

    tests = json.dumps([{"input": "2", "output": "hidden 4", "testtype": "stdin"}])
    shown = json.dumps([{"input": "1", "output": "2", "testtype": "stdin"}])
    line = {"question_content": "Double it.", "question_id": "7", "public_test_cases": shown, "private_test_cases": tests}
    for checks in ((), ("tests",)):
        [prompt] = read_teacher_prompts(prompts([line | {"prompt": "Double it."}]), checks, None)
        written = prompt.line(ANSWER)
        assert "hidden" not in json.dumps(written) and written["question_id"] == "7"
    assert prompt.problem == read_problem(line) and len(prompt.problem.tests) == 2  # they are checked with


@pytest.mark.parametrize(
    ("line", "checks", "said"),
    [
        ({"prompt": "a"}, ("maths",), '--check maths needs the right answer in "reference"'),
        ({"prompt": "a"}, ("tests",), "--check tests needs a problem"),
        ({"promt": "a"}, (), "has 'promt'; expected \"prompt\""),
        ({"messages": []}, (), "the last message is not the user's"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, (), "the last message is not the user's"),
        ({"messages": [{"role": "boss", "content": "a"}]}, (), 'a message is .*expected "role"'),
        ({"messages": ["a"]}, (), "a message is a; expected"),
        ({"prompt": "half \ud83d"}, (), "holds half a character"),
    ],
)
def test_what_is_refused_names_its_line(line, checks, said, prompts):
    with pytest.raises(FirstTokenError, match=f"prompts.jsonl, line 2: {said}"):
        read_teacher_prompts(prompts([{"answer": "1", "prompt": "x", "test_list": ["assert f()"]}, line]), checks, None)
