"""``python -m firsttoken``: the command line."""

from firsttoken.cli import main

main()
