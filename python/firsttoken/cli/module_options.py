"""What verbs share for modules: their options, and refusing those that are for decoders."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from firsttoken.errors import FirstTokenError

Samples = Annotated[
    Path | None,
    typer.Option(
        "--samples",
        metavar="FILE.npz",
        help="Of a module: inputs for plans with calibrated ranges, an array [samples, …] for each input by its name; every fourth proves the file where --held-out gives no others.",
        show_default=False,
    ),
]
Lengths = Annotated[
    list[str] | None,
    typer.Option(
        "--lengths",
        metavar="NAME=N,N,…",
        help="Of a module: the sizes of a dimension that may vary, as in length=16,64 or batch=1,8; a .tflite has a graph for each, over one set of weights. May be repeated.",
        show_default=False,
    ),
]
Width = Annotated[
    float | None, typer.Option("--width", metavar="SHARE", help="Of a student with several widths: which one.", show_default=False)
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels", metavar="FILE", help="Of a module: the names of its classes, one a line (default: the student's).", show_default=False
    ),
]
MODULE_ONLY = ("samples", "lengths", "width", "labels")
EVERYWHERE = ("as_json", "verbose")


def given_options(context: typer.Context) -> dict[str, str]:
    """The options that the user gave, as the verb's parameters are called, and as they are written."""
    found = {}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name) if parameter.name else None
        if source is not None and source.name == "COMMANDLINE" and parameter.param_type_name == "option":
            found[str(parameter.name)] = parameter.opts[0]
    return found


def refuse_of_decoders(context: typer.Context, taken: Collection[str], what: str) -> None:
    """Raises `FirstTokenError` for an option that a module has no use for."""
    for name, written in given_options(context).items():
        if name not in taken and name not in EVERYWHERE:
            raise FirstTokenError(f"{written} is for decoders, and {what} is a module; leave it out")


def refuse_of_modules(context: typer.Context, what: str) -> None:
    """Raises `FirstTokenError` for an option that a decoder has no use for."""
    for name, written in given_options(context).items():
        if name in MODULE_ONLY:
            raise FirstTokenError(
                f"{written} is for modules (a student's folder, a .pt2, my_model.py:build), and {what} is none; leave it out"
            )


def parse_module_lengths(given: list[str] | None) -> dict[str, list[int]] | None:
    """Sizes by dimension of ``["length=16,64"]``. Raises `FirstTokenError` for anything else."""
    if not given:
        return None
    found: dict[str, list[int]] = {}
    for one in given:
        name, mark, sizes = one.partition("=")
        try:
            values = [int(size) for size in sizes.split(",")]
        except ValueError:
            values = []
        if not mark or not name or not values or min(values) < 1:
            raise FirstTokenError(f"--lengths {one!r}; expected a dimension's name and its sizes, like length=16,64")
        if name in found:
            raise FirstTokenError(f"--lengths: {name!r} is given twice; give all its sizes in one, like {name}=16,64")
        found[name] = values
    return found


def read_labels(path: Path | None) -> list[str]:
    """The lines of a file. Raises `FirstTokenError`."""
    from firsttoken import plain_file

    if path is None:
        return []
    try:
        return [line.strip() for line in plain_file.read_text(path).splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise FirstTokenError(f"--labels {path}: cannot be read as UTF-8 text ({plain_file.why(error)})") from None
