#!/usr/bin/env python3
"""How often our judging of LiveCodeBench answers says what LiveCodeBench's own checker says.

    git clone https://github.com/LiveCodeBench/LiveCodeBench
    scripts/benchmarks/livecodebench_agreement.py LiveCodeBench/lcb_runner/evaluation/testing_util.py

Outputs are drawn: an expected output, and one that is it, or it with numbers, spaces, lines or letters changed. Their checker runs a program that
prints the second; ours compares the two. Then programs that are right and wrong in several ways go through both, ours in the sandbox.
"""

import importlib.util
import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))

from firsttoken.evaluate.livecodebench import Contest, judge, same_output
from firsttoken.evaluate.sandbox import Limits

WORDS = (
    "YES",
    "no",
    "1",
    "-3",
    "0.5",
    "1e5",
    "100000",
    "3.0",
    "3",
    "50000000000000000",
    "abc",
    "nan",
    "inf",
    "1_000",
    "½",
    "+7",
    "7",
    "0x10",
    "",
)
TESTS = (("[2, 7, 11, 15]\n9", "[0, 1]"), ("[3, 3]\n6", "[0, 1]"))
CLASS = "class Solution:\n    def find(self, nums: List[int], target: int):\n        "
PAIRS = "for a, b in combinations(range(len(nums)), 2):\n            if nums[a] + nums[b] == target:\n                return "
FUNCTIONAL = [
    *(f"{CLASS}{PAIRS}{value}" for value in ("[a, b]", "(a, b)", "[b, a]", "[float(a), b]", "[str(a), b]", "{a, b}", "np.array([a, b])", "deque([a, b])", "[bool(a), b]")),
    f"{CLASS}return [0, 1]", f"{CLASS}pass", f"{CLASS}raise ValueError", f"{CLASS}return undefined", f"{CLASS}return", "class Solution:\n    pass", "x = 1", "def f(:",
    f"{CLASS}self.seen = getattr(self, 'seen', 0) + 1\n        return [0, self.seen]", f"{CLASS}nums.sort()\n        return [0, 1]",
    f"import numpy as np\n{CLASS}return np.array([0, 1]).tolist()", f"{CLASS}sys.exit(0)", f"{CLASS}return list(range(2))", f"{CLASS}return (x for x in (0, 1))",
    "def find(nums, target):\n    return [0, 1]", "def find(nums, target):\n    return [1, 0]",
]  # fmt: skip
ADD = (("1\n2\n", "3\n"), ("10\n20", "30"))
STDIN = [
    "print(int(input()) + int(input()))", "import sys\nprint(sum(map(int, sys.stdin.read().split())))", "print(sum(map(int, stdin)))", "print(3)",
    "print(sum(int(x) for x in sys.stdin.readlines()))", "if __name__ == '__main__':\n    print(int(input()) + int(input()))", "raise ValueError", "def f(:",
    "def main():\n    print(int(input()) + int(input()))\nmain()", "import sys\nprint(int(input()) + int(input()))\nsys.exit()", "print(int(input()) + int(input()), end='')",
    "a = open(0).read().split()\nprint(int(a[0]) + int(a[1]))", "print(float(input()) + float(input()))", "input()\ninput()\ninput()", "pass",
    "import sys\nprint(sum(map(int, sys.stdin.buffer.read().split())))", "print('the sum is', int(input()) + int(input()))", "print(Decimal(input()) + Decimal(input()))",
]  # fmt: skip


def drawn(random_numbers: random.Random) -> tuple[str, str]:
    """An expected output, and one that is more or less like it."""
    lines = [
        " ".join(random_numbers.choice(WORDS) for _ in range(random_numbers.randint(0, 4))) for _ in range(random_numbers.randint(1, 4))
    ]
    expected = "\n".join(lines)
    printed = expected
    for _ in range(random_numbers.randint(0, 2)):
        old = random_numbers.choice((" ", "\n", "3", "1", "", "YES", "0.5"))
        printed = printed.replace(
            old, random_numbers.choice(("  ", "\n\n", "3.0", "1", " ", "3", "0.50", "\t", "\r\n")), random_numbers.choice((1, -1))
        )
    return printed, expected


def theirs(checker: object, code: str, tests: tuple, method: str | None) -> bool:
    """What their checker says of a program."""
    inputs, outputs = ([*column] for column in zip(*tests, strict=True))
    try:
        found = (
            checker.grade_stdio(code, inputs, outputs, 6) if method is None else checker.grade_call_based(code, inputs, outputs, method, 6)
        )
    except BaseException:
        return False
    return found is not None and all(result is True for result in found[0])


def main() -> None:
    spec = importlib.util.spec_from_file_location("their_checker", sys.argv[1])
    checker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checker)
    random_numbers, agree, equal, count = random.Random(0), 0, 0, 2000
    for _ in range(count):
        printed, expected = drawn(random_numbers)
        wanted = theirs(checker, f"print({printed!r}, end='')", (("", expected),), None)
        ours = same_output(printed, expected)
        agree, equal = agree + (ours == wanted), equal + wanted
        if ours != wanted:
            print(f"  differs: printed {printed!r}, expected {expected!r}: theirs {wanted}, ours {ours}")
    print(f"outputs: {agree} of {count} judged alike, {equal} of them equal")
    for kind, programs, tests, method in (("functional", FUNCTIONAL, TESTS, "find"), ("stdin", STDIN, ADD, None)):
        agree = passed = 0
        for code in programs:
            wanted = theirs(checker, code, tests, method)
            outcome = judge(Contest("", "", method, tests), code, Limits(6))
            agree, passed = agree + (outcome.passed == wanted), passed + wanted
            if outcome.passed != wanted:
                print(f"  differs: {json.dumps(code)}: theirs {wanted}, ours {outcome}")
        print(f"{kind} programs: {agree} of {len(programs)} judged alike, {passed} of them passing there")


if __name__ == "__main__":
    main()
