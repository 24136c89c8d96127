"""Options that say where and with how much of the machine something runs."""

from typing import Annotated

import typer

HoweverLong = Annotated[bool, typer.Option("--however-long", help="Go on where a CPU would compute for days.")]

Dtype = Annotated[str, typer.Option("--dtype", help="Type of the teacher's weights: float32, bfloat16 or float16.")]
Device = Annotated[str, typer.Option("--device", help="Where it runs: auto (the accelerator, where there is one), cpu, cuda:1 …")]


def checked_dtype(name: str) -> str:
    """Returns a type of weights by its name. Raises `FirstTokenError`."""
    from firsttoken.distill.models import DTYPES
    from firsttoken.errors import FirstTokenError, nearest

    if name not in DTYPES:
        raise FirstTokenError(f"--dtype {name!r} is unknown{nearest(name, DTYPES)}; expected one of {', '.join(DTYPES)}")
    return name
