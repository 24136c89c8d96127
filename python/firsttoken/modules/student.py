"""A student of ``firsttoken distill`` that is no decoder: its program, what it was measured by, and its own samples."""

import hashlib
import json
from pathlib import Path
from typing import Any

from firsttoken.bundle.lineage import RECORD
from firsttoken.bundle.module_manifest import StudentLineage
from firsttoken.checkpoint import read_json
from firsttoken.errors import FirstTokenError
from firsttoken.file_hash import hash_file
from firsttoken.safe_text import visible

PROGRAM = "model.pt2"
CALIBRATION, HELD_OUT = "calibration.npz", "held_out.npz"


def is_student(folder: Path) -> bool:
    """Whether a folder holds a student that is a program."""
    return (folder / RECORD).is_file() and (folder / PROGRAM).is_file()


def program_of(folder: Path, width: float | None, record: dict[str, Any]) -> Path:
    """The program of a student, of one ``width`` where it has several, as its record names it.

    Raises `FirstTokenError` for a width that it does not have, or a file that is not what ``distillation.json`` says.
    """
    programs = record.get("programs")
    if not isinstance(programs, dict) or not all(isinstance(facts, dict) for facts in programs.values()):
        if width is not None:
            raise FirstTokenError(f"student {folder}: has one width; leave out --width")
        return folder / PROGRAM
    widths = {facts["width"]: name for name, facts in programs.items() if isinstance(facts.get("width"), int | float)}
    if width is not None and width not in widths:
        had = f"it has {', '.join(f'{one:g}' for one in sorted(widths))}" if len(widths) > 1 else "it has one width, leave out --width"
        raise FirstTokenError(f"student {folder}: has no width {width:g}; {had}")
    name = PROGRAM if width is None else widths[width]
    facts = programs.get(name)
    if Path(name).name != name or facts is None:
        raise FirstTokenError(f"student {folder}: {RECORD} does not name {visible(PROGRAM if facts is None else name)!r}; distil it again")
    if not (folder / name).is_file():
        raise FirstTokenError(f"student {folder}: {name} is missing; copy the whole folder again")
    if "sha256" in facts and (got := hash_file(folder / name)) != facts["sha256"]:
        raise FirstTokenError(
            f"student {folder}: {name} has SHA-256 {got[:12]}…, but {RECORD} says {visible(facts['sha256'], 12)}; it was damaged or replaced, copy the folder again"
        )
    return folder / name


def lineage_of(record: dict[str, Any], width: float | None) -> StudentLineage | None:
    """Where the student comes from; None for a record that does not say it."""
    recipe, name = record.get("recipe"), record.get("recipe name")
    if not isinstance(recipe, dict) or not isinstance(name, str):
        return None
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    seeds = record.get("seeds")
    first = seeds[0] if isinstance(seeds, list) and seeds and isinstance(seeds[0], dict) else {}
    accuracies = {
        row: found["accuracy"] for row, found in first.items() if isinstance(found, dict) and isinstance(found.get("accuracy"), float)
    }
    teachers = {row: accuracy for row, accuracy in accuracies.items() if row.startswith("teacher")}
    own = accuracies.get("student distilled") if width in (None, 1) else None
    return StudentLineage(recipe=name, recipe_sha256=digest, width=width, teachers=teachers, accuracy=own)


def labels_of(record: dict[str, Any]) -> tuple[str, ...]:
    """The names of the classes, where distillation wrote them."""
    classes = record.get("classes")
    return tuple(classes) if isinstance(classes, list) and all(isinstance(one, str) for one in classes) else ()


def read_record(folder: Path) -> dict[str, Any]:
    return read_json(folder / RECORD, "a student that `firsttoken distill` wrote has it")
