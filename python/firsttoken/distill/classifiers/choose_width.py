"""Taking the width of an elastic student that fits a device."""

from __future__ import annotations

import json
import math
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from firsttoken.bundle.atomic import Staging
from firsttoken.bundle.lineage import RECORD
from firsttoken.checkpoint import read_json
from firsttoken.distill.classifiers.fit import WEIGHTS
from firsttoken.distill.classifiers.programs import PROGRAM, sha256_of
from firsttoken.distill.student_folder import check_student_destination, files_in
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible

RUNS = 50
SIZES = ("parameters", "multiply_adds", "bytes")


@dataclass(frozen=True)
class Limits:
    """What the device has room for; None does not bound. Milliseconds are one sample's on this machine, one thread, the median of `RUNS`."""

    parameters: int | None = None
    multiply_adds: int | None = None
    milliseconds: float | None = None


def choose_width(student: str | Path, output: str | Path, limits: Limits, force: bool = False) -> dict:
    """Writes the widest network of ``student`` within ``limits`` as a student of its own, and returns its width and sizes.

    ``output`` gets `PROGRAM`, its weights and `RECORD`. Runs the programs in ``student``, which have to be your own. Raises
    `FirstTokenError` for a student of one width, programs that are not what its record says, and limits below the narrowest.
    """
    student, output = Path(student), Path(output)
    record = read_json(student / RECORD, "a student that `firsttoken distill` wrote has it")
    check_student_destination(output, force)
    found = []
    for file, size in sorted(widths_of(student, record).items(), key=lambda each: -each[1]["width"]):
        program = load(student / file, size)
        size = {name: size[name] for name in ("width", *SIZES, "sha256")}
        if limits.milliseconds is not None:
            size["milliseconds"] = milliseconds(program)
        found.append(size)
        if all(most is None or size[name] <= most for name, most in vars(limits).items()):
            write(record, program, student / file, size, output, force)
            return size
    said = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value:,}" for name, value in found[-1].items() if name != "sha256"
    )
    raise FirstTokenError(
        f"student {student}: no width is within the limits; the narrowest has {said}; give more, or train narrower widths"
    )


def widths_of(student: Path, record: dict) -> dict[str, dict]:
    """The programs of a student's record by file. Raises `FirstTokenError` for a student of one width."""
    programs = record.get("programs")
    if not isinstance(programs, dict) or not all(
        isinstance(each, dict) and {"width", "sha256", *SIZES} <= set(each) for each in programs.values()
    ):
        raise FirstTokenError(
            f"student {student}: has one width; expected one of a recipe with student.widths, such as `firsttoken distill digits-elastic`"
        )
    for file, each in programs.items():
        for name in ("width", *SIZES):
            value = each[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise FirstTokenError(
                    f"student {student}: {RECORD} gives {file} the {name} {visible(repr(value), 40)}; expected a number above 0, distil the student again"
                )
    return programs


def load(path: Path, size: dict) -> torch.export.ExportedProgram:
    """Loads a program that is the one of the record. Raises `FirstTokenError`."""
    if not path.is_file():
        raise FirstTokenError(f"{path}: does not exist, and {RECORD} names it; distil the student again")
    if sha256_of(path) != size["sha256"]:
        raise FirstTokenError(f"{path}: is not the program that {RECORD} names (its SHA-256 is another); distil the student again")
    return torch.export.load(path)


@torch.no_grad()
def milliseconds(program: torch.export.ExportedProgram) -> float:
    """Median time of one sample in milliseconds, one thread, after a tenth as many runs to warm up."""
    network, threads = program.module(), torch.get_num_threads()
    assert program.example_inputs is not None, "programs are saved with the example they were traced with"
    sample = program.example_inputs[0][0][:1]
    times = []
    torch.set_num_threads(1)
    try:
        for _ in range(RUNS + RUNS // 10):
            begin = time.perf_counter()
            network(sample)
            times.append(time.perf_counter() - begin)
    finally:
        torch.set_num_threads(threads)
    return 1000 * statistics.median(times[RUNS // 10 :])


def write(record: dict, program: torch.export.ExportedProgram, source: Path, size: dict, output: Path, force: bool) -> None:
    """Writes the folder, whole or not at all."""
    from safetensors.torch import save_file

    with Staging(output) as staging:
        shutil.copyfile(source, staging.folder / PROGRAM)
        save_file({name: value.contiguous() for name, value in program.state_dict.items()}, staging.folder / WEIGHTS)
        said = record | {"programs": {PROGRAM: size}, "chosen from": str(source.parent.name)}
        said["files"] = sorted([*files_in(staging.folder), RECORD])
        (staging.folder / RECORD).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
        staging.commit(replace=force)
