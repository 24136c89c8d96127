"""``firsttoken distill width STUDENT``"""

from pathlib import Path
from typing import Annotated

import typer

from firsttoken.cli.options import Verbose
from firsttoken.cli.output import Json, Output
from firsttoken.extras import need


def width(
    student: Annotated[Path, typer.Argument(metavar="STUDENT", help="Folder of a student with several widths.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the network goes.", show_default=False)],
    most_parameters: Annotated[int | None, typer.Option("--max-parameters", min=1, help="Parameters at most.")] = None,
    most_multiply_adds: Annotated[
        int | None, typer.Option("--max-multiply-adds", min=1, help="Multiplications with an addition for one sample, at most.")
    ] = None,
    most_milliseconds: Annotated[
        float | None, typer.Option("--max-time", min=0.0001, metavar="MS", help="Milliseconds for one sample on this machine, at most.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing student.")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Take the widest network that fits a device out of a student with several widths.

    FOLDER holds it as a program (model.pt2), its weights, and distillation.json. Runs the programs in STUDENT, which have to be your own.

    \b
    Examples:
      firsttoken distill digits-elastic -o out/elastic
      firsttoken distill width out/elastic --max-multiply-adds 30000 -o out/watch
    """
    need("distill", "choosing a width")
    from firsttoken.distill.classifiers.choose_width import Limits, choose_width

    out = Output(as_json)
    chosen = choose_width(student, output, Limits(most_parameters, most_multiply_adds, most_milliseconds), force)
    out.say(f"width {chosen['width']:g}: {chosen['parameters']:,} parameters, {chosen['multiply_adds']:,} multiply-adds, in {output}")
    out.document({"student": output, **chosen})
