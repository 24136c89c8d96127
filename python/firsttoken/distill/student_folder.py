"""The folder of a student: it is replaced only if all that lies in it was written by `firsttoken distill`."""

import os
from pathlib import Path

from firsttoken.bundle.lineage import RECORD
from firsttoken.checkpoint import read_json
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible


def check_student_destination(output: Path, force: bool) -> None:
    """Raises `FirstTokenError` if a student cannot be written at ``output``; changes nothing."""
    if not os.path.lexists(output):
        return
    if not force:
        raise FirstTokenError(f"output {output}: exists; replace it with --force or choose another with -o")
    if output.is_symlink() or not output.is_dir():
        raise FirstTokenError(f"output {output}: is a file or a link, not a student, and will not be replaced; choose another with -o")
    found = files_in(output)
    if not found:
        return
    if RECORD not in found:
        raise FirstTokenError(
            f"output {output}: is a folder with other files, not a student, and will not be replaced; choose another with -o"
        )
    named = read_json(output / RECORD, "").get("files")
    if not isinstance(named, list):
        raise FirstTokenError(
            f"output {output}: its {RECORD} names no files, so it is not known whose they are, and it will not be replaced; "
            "remove the folder yourself, or choose another with -o"
        )
    if foreign := [name for name in found if name not in named]:
        raise FirstTokenError(
            f"output {output}: holds {visible(foreign[0])!r}, which `firsttoken distill` did not write, and will not be replaced; move it away, or choose another with -o"
        )


def files_in(folder: Path) -> list[str]:
    """All files and links under ``folder``, and empty folders, by their paths from there."""
    found = []
    for place, folders, files in os.walk(folder):
        names = files + [name for name in folders if os.path.islink(os.path.join(place, name))]
        if not files and not folders and place != str(folder):
            names = [""]
        found += [os.path.relpath(os.path.join(place, name), folder) for name in names]
    return sorted(found)
