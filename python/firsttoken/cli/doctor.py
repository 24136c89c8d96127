"""``firsttoken doctor``"""

import typer

from firsttoken.cli.options import Verbose


def doctor(verbose: Verbose = False):
    """Tell what works here and what to install."""
    from firsttoken.doctor import examine
    from firsttoken.report.tables import console, table

    checks = examine()
    rows = [(check.state, check.name, check.found, check.advice) for check in checks]
    console().print(table(None, ("", "what", "found", "to do"), rows, left=4))
    raise typer.Exit(1 if any(check.state == "missing" for check in checks) else 0)
