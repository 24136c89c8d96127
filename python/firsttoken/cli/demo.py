"""``firsttoken demo``"""

from pathlib import Path
from typing import Annotated

import typer

from firsttoken.cli.options import Threads, Verbose


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the bundles go; older demo bundles there are replaced.")] = Path(
        "out/demo"
    ),
    plan: Annotated[str, typer.Option("--plan", "-p", help="Precision plan.")] = "fp16-attention",
    threads: Threads = None,
    verbose: Verbose = False,
):
    """Export, prove and run the embedded checkpoint.

    Works offline, takes both runtimes and ends with a table of what came of it.

    \b
    Example:
      firsttoken demo
    """
    from firsttoken.main_job import run_demo

    run_demo(output, plan, threads)
