"""``firsttoken get``: any checkpoint as a Hugging Face folder."""

import os
from pathlib import Path

from firsttoken.checkpoint_sources.open import checkpoint_folder, open_checkpoint
from firsttoken.checkpoint_sources.write_folder import write_checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent


def get(
    checkpoint: str | Path,
    output: str | Path | None = None,
    adapter: str | Path | None = None,
    force: bool = False,
    report: Report = silent,
) -> Path:
    """Returns the folder; see `firsttoken.api.get`. A model that cannot be exported is refused before anything is written."""
    if output is None:
        if adapter is not None:
            raise FirstTokenError(
                "--adapter makes other weights, which have to be written somewhere; add -o FOLDER, or give --adapter to `firsttoken export`"
            )
        return checkpoint_folder(checkpoint, report)
    if os.path.lexists(output) and not force:
        raise FirstTokenError(f"output {output}: exists; replace it with --force or choose another with -o")
    with open_checkpoint(checkpoint, adapter, report) as source:
        open_decoder(source)
        if os.path.realpath(output) == os.path.realpath(source.folder):
            raise FirstTokenError(f"output {output}: is the checkpoint itself; choose another with -o")
        return write_checkpoint(source, output, report, replace=force)
