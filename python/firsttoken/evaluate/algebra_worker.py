"""The process that compares mathematical expressions with math-verify: ``python -m firsttoken.evaluate.algebra_worker``.

What is compared was written by models: sympy may compute at ``9^{9^{9}}`` without end, or take all memory, so that is limited here.
"""

import json
import logging
import resource
import signal
import sys

SECONDS = 5.0  # of computing; usual pairs take hundredths
PATIENCE_SECONDS = 60.0  # on the clock
MEMORY = 2 << 30  # bytes of address space


def answer(line: str) -> dict[str, object]:
    """Returns whether two texts of LaTeX mean the same, or the error."""
    from math_verify import parse, verify

    try:
        ours, theirs = (parse(f"${text}$", parsing_timeout=None) for text in json.loads(line)["pair"])
        return {"same": bool(verify(theirs, ours, timeout_seconds=None))}
    except Exception as error:  # sympy may fail in any way
        return {"error": f"{type(error).__name__}: {str(error)[:200]}"}


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked, which closes the pipe
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import math_verify  # noqa: F401  its import is not counted to the first question

    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)
        said = json.dumps(answer(line))
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(said, flush=True)


if __name__ == "__main__":
    main()
