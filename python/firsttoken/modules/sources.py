"""What a module can be given as: a student's folder, a ``.pt2``, or ``my_model.py:build``."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firsttoken.bundle.module_manifest import StudentLineage
from firsttoken.errors import FirstTokenError
from firsttoken.modules.archive import open_program
from firsttoken.modules.built import build_module
from firsttoken.modules.describe import Lengths, describe_program
from firsttoken.modules.module import Module
from firsttoken.modules.recognized import OTHERS, is_function
from firsttoken.modules.samples import read_samples
from firsttoken.modules.student import CALIBRATION, HELD_OUT, is_student, labels_of, lineage_of, program_of, read_record

EXPECTED = "expected a student's folder of `firsttoken distill`, a .pt2 of torch.export.save, or my_model.py:build"


@dataclass(frozen=True)
class Source:
    """A module with what comes with it: arrays of its own for calibration and the proof (`samples.checked`), and where a student is from."""

    module: Module
    calibration: dict[str, np.ndarray] | None = None
    held_out: dict[str, np.ndarray] | None = None
    lineage: StudentLineage | None = None
    sources: tuple[str, str] = ("samples", "held-out samples")


def open_source(given: str | Path, width: float | None = None, lengths: Lengths | None = None, labels: Sequence[str] = ()) -> Source:
    """Opens a module. ``width`` is for a student that has several. Raises `FirstTokenError` for what is none, damaged or not to be trusted."""
    if is_function(given):
        need_no_width(given, width)
        return Source(build_module(str(given), lengths, labels))
    path = Path(given)
    if os.path.isdir(path):
        return open_student(path, width, lengths, labels)
    if path.suffix in OTHERS:
        raise FirstTokenError(f"{path}: {OTHERS[path.suffix]}")
    if path.suffix != ".pt2":
        raise FirstTokenError(f"{path}: no module; {EXPECTED}")
    need_no_width(given, width)
    return Source(describe_program(open_program(path), path.stem, lengths, labels))


def need_no_width(given: str | Path, width: float | None) -> None:
    if width is not None:
        raise FirstTokenError(f"{given}: --width is for a student's folder with several widths; leave it out")


def open_student(folder: Path, width: float | None, lengths: Lengths | None, labels: Sequence[str]) -> Source:
    if not is_student(folder):
        raise FirstTokenError(f"{folder}: a folder without model.pt2 and distillation.json; {EXPECTED}")
    record = read_record(folder)
    program = open_program(program_of(folder, width, record))
    module = describe_program(program, folder.resolve().name, lengths, labels or labels_of(record))
    own = [read_samples(folder / name) if (folder / name).is_file() else None for name in (CALIBRATION, HELD_OUT)]
    return Source(module, own[0], own[1], lineage_of(record, width), (f"{folder / CALIBRATION}", f"{folder / HELD_OUT}"))
