"""``firsttoken doctor``"""

import typer

from firsttoken.cli.options import Verbose
from firsttoken.cli.output import Json, Output


def doctor(as_json: Json = False, verbose: Verbose = False) -> None:
    """Tell what works here and what to install."""
    from firsttoken.doctor import examine
    from firsttoken.report.tables import table

    checks = examine()
    rows = [(check.state, check.name, check.found, check.advice) for check in checks]
    out = Output(as_json)
    out.show(table(None, ("", "what", "found", "to do"), rows, left=4))
    out.document({"checks": checks})
    raise typer.Exit(1 if any(check.state == "missing" for check in checks) else 0)
