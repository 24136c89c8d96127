"""Whether two expressions mean the same, by algebra: math-verify's judgement (extra ``maths``), asked of a process with limits."""

from functools import lru_cache

from firsttoken.evaluate.algebra_worker import SECONDS
from firsttoken.extras import missing
from firsttoken.kept_process import EndedError, KeptProcess

CHECKER = KeptProcess("firsttoken.evaluate.algebra_worker", SECONDS)
LONGEST = 2000  # characters; an answer is shorter


@lru_cache(1)
def can_compare() -> bool:
    """Whether math-verify is installed."""
    return not missing("maths")


def means_same(got: str, wanted: str) -> bool:
    """Whether two answers in LaTeX are equal by algebra; False where they cannot be read, or computing does not end in seconds."""
    if not can_compare() or max(len(got), len(wanted)) > LONGEST:
        return False
    try:
        return bool(CHECKER.ask({"pair": [got, wanted]}).get("same", False))
    except EndedError:
        return False
