"""Where a verb's words go: tables and sentences for people, or one JSON document for programs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firsttoken.safe_text import harmless, harmless_json

if TYPE_CHECKING:
    from rich.table import Table

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of tables; what is said on the way goes to standard error.")
]


class Output:
    """One verb's output. With ``as_json``, standard output gets what `document` is given and nothing else."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def say(self, line: str) -> None:
        """A line on the way, at once."""
        print(harmless(line), file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def show(self, *parts: "str | Table") -> None:
        """Tables and lines of what the document holds too."""
        if self.as_json:
            return
        for part in parts:
            if isinstance(part, str):
                print(harmless(part))
            else:
                from firsttoken.report.tables import console

                console().print(part)

    def document(self, values: object) -> None:
        """The document: models, dataclasses, paths and plain values. Fields of models are named as in their files."""
        if self.as_json:
            from pydantic_core import to_json

            # JSON has no nan and no infinity
            document = to_json(values, indent=1, by_alias=True, inf_nan_mode="null", serialize_unknown=False).decode()
            print(harmless_json(document))


def refuse_file_after_json(as_json: bool, given: list[Path], what: str) -> None:
    """Raises a usage error for ``--json FILE``: the document is printed, and the name was taken for another bundle."""
    stray = next((path for path in given if path.suffix == ".json"), None)
    if as_json and stray is not None:
        raise typer.BadParameter(f"{stray} is no {what}; --json prints to standard output, a file is asked for with -o {stray}")
