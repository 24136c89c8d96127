"""``firsttoken demo``"""

from pathlib import Path
from typing import Annotated

import typer

from firsttoken.cli import completion
from firsttoken.cli.options import Threads, Verbose
from firsttoken.cli.output import Json, Output


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the bundles go; older demo bundles there are replaced.")] = Path(
        "out/demo"
    ),
    plan: Annotated[str, typer.Option("--plan", "-p", help="Precision plan.", autocompletion=completion.plans)] = "fp16-attention",
    threads: Threads = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Export, prove and run the embedded checkpoint.

    Works offline, takes both runtimes and ends with a table of what came of it.

    \b
    Example:
      firsttoken demo
    """
    import sys

    from firsttoken.demo import prompts
    from firsttoken.main_job import run_demo, table_of

    out = Output(as_json)

    def write(piece: str) -> None:
        stream = sys.stderr if as_json else sys.stdout
        stream.write(piece)
        stream.flush()

    shown = run_demo(output, plan, threads, out.say, write)
    out.show(
        "",
        table_of(shown),
        "KLD: divergence from the FP32 checkpoint in nats; first token: of the prompt above, cold and once warm. Where the bundles lie:",
        *(f"  {each.folder.resolve()}" for each in shown),
        f'Next: firsttoken generate {shown[0].folder} --prompt "{prompts()[1]["text"]}"',
    )
    out.document(
        {
            "bundles": [
                {
                    "folder": e.folder,
                    "manifest": e.manifest,
                    "text": e.text,
                    "load": e.load,
                    "cold": e.cold.as_run(),
                    "warm": e.warm.as_run(),
                }
                for e in shown
            ]
        }
    )
