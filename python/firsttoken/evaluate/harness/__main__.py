"""lm_eval's command line, which knows ``--model firsttoken``."""

import sys

from firsttoken.errors import FirstTokenError
from firsttoken.evaluate.harness import register


def main() -> None:
    """Runs ``lm_eval`` with the arguments that were given; an error of ours is a line, and status 2."""
    try:
        register()
        from lm_eval.__main__ import cli_evaluate

        cli_evaluate()
    except FirstTokenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
