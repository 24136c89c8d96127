"""Which of a teacher's answers are kept: those that are right, pass their tests, and were not cut off."""

import asyncio
import os
from typing import Literal, get_args

from firsttoken.distill.servers.prompts import Prompt
from firsttoken.distill.servers.reply import Answer
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.evaluate import code, maths
from firsttoken.evaluate.sandbox import Limits

Check = Literal["maths", "tests", "length"]
CHECKS: tuple[str, ...] = get_args(Check)


def check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names in their own order. Raises `FirstTokenError` for one that is none."""
    for name in names:
        if name not in CHECKS:
            raise FirstTokenError(f"--check {name!r} is unknown{nearest(name, CHECKS)}; expected one of {', '.join(CHECKS)}")
    return tuple(name for name in CHECKS if name in names)


class Checker:
    """Says what is wrong with an answer. Tests run in the sandbox of `evaluate`, as many at a time as there are cores."""

    def __init__(self, checks: tuple[str, ...], least_tokens: int, limits: Limits = Limits()) -> None:
        self.checks, self.least_tokens, self.limits = checks, least_tokens, limits
        self._cores = asyncio.Semaphore(os.cpu_count() or 1)

    async def wrong(self, prompt: Prompt, answer: Answer) -> str:
        """Returns why an answer is rejected, or nothing. Raises `FirstTokenError` where tests cannot be run."""
        if not answer.text.strip():
            return "empty" if answer.stopped == "end" else f"empty, stopped by {answer.stopped}"
        if "length" in self.checks and answer.stopped != "end":
            return f"not finished, stopped by {answer.stopped}"
        if self.least_tokens and answer.tokens is None:
            return "of unknown length: the server counts no tokens, and --least-tokens needs them"
        if answer.tokens is not None and answer.tokens < self.least_tokens:
            return f"too short: {answer.tokens} tokens, fewer than {self.least_tokens}"
        if "maths" in self.checks and not await asyncio.to_thread(_right, prompt, answer):
            return "another answer than the reference"
        if "tests" in self.checks:
            assert prompt.problem is not None, "read with the check tests"
            async with self._cores:
                outcome = await asyncio.to_thread(code.judge, prompt.problem, answer.text, True, self.limits)
            if not outcome.passed:
                return f"tests: {outcome.why}"
        return ""


def _right(prompt: Prompt, answer: Answer) -> bool:
    assert prompt.reference is not None, "read with the check maths"
    return maths.same(maths.extract(answer.text), prompt.reference)
