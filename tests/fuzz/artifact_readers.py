"""How artifacts are run: of a bundle, and as files that a stranger made."""

from pathlib import Path

from firsttoken.errors import FirstTokenError


def run_bundle(path: Path) -> None:
    """Loads the artifact whatever its hash, takes four tokens and two more."""
    from firsttoken.run.open import open_runner

    runner = open_runner(path.parent, 1, check=False, kept=False)
    runner.prefill([1, 2, 3, 4])
    runner.decode(5)
    runner.decode(6)
    runner.close()


def run_bundle_of_weights(path: Path) -> None:
    """The same with a damaged file of weights beside the artifact; of other numbers only the proof could tell."""
    run_bundle(path.with_suffix(""))


def run_pte(path: Path) -> None:
    from firsttoken.backends.executorch.program_file import embedding_table, read_steps

    refused = None
    for way in (read_steps, embedding_table):
        try:
            way(path)
        except FirstTokenError as error:
            refused = error
    run_bundle(path)
    if refused:
        raise refused


def read_file(path: Path) -> None:
    """Reads, looks into and runs a file as one that a stranger made, with a small checkpoint's words."""
    from firsttoken.checkpoint import Checkpoint
    from firsttoken.foreign.open import format_of, open_file, read_subject

    with Checkpoint(path.parent) as checkpoint:
        subject = read_subject(path, checkpoint)
        format_of(path).reader.structure(path)
        runner = open_file(subject, 1, kept=False)
        runner.prefill([1, 2, 3, 4])
        runner.decode(5)
        runner.close()
