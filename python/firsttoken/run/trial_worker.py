"""The process that loads an artifact first, for `firsttoken.run.trial`, and runs one token of it."""

import sys

from firsttoken import last_words
from firsttoken.errors import FirstTokenError
from firsttoken.run.open import open_runner


def main() -> int:
    """Loads the bundle that is named; 1 where it is refused, which the load that follows says better."""
    last_words.say_into(2)
    try:
        runner = open_runner(sys.argv[1], threads=1, check=False)
        runner.prefill([0])
        runner.close()
    except FirstTokenError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
