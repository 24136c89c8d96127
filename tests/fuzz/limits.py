"""Reading many damaged files, each batch in a process of its own that has little memory and time, and counting how each ended."""

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fuzz.mutate import put_odd_file
from fuzz.readers import Reader

from firsttoken.errors import FirstTokenError

SECONDS = 10.0  # of computing, of one input
PATIENCE_SECONDS = 60.0  # on the clock: one that waits for what never comes; a busy machine makes the others wait, too
GROWTH = 2 << 30  # bytes of address space that a batch may add
BATCH = 50
ODD_FILES = 0.03  # the share of inputs where something else lies in the file's place
LONGEST_MESSAGE = 4000
# read: it was accepted. refused: one line. The others are faults; "died" is told in one line by the command line (`cli.watch`).
FAULTS = ("traceback", "hang", "growth", "unfit", "died")


@dataclass
class Counts:
    """How a reader's inputs ended, and what was said of those that are faults, by the input's number."""

    ended: Counter = field(default_factory=Counter)
    faults: dict[int, tuple[str, str]] = field(default_factory=dict)

    @property
    def inputs(self) -> int:
        return sum(self.ended.values())


def run(
    reader: Reader, good: Path, seed: int, numbers: range, counts: Counts, until: float = float("inf"), kept: Path | None = None
) -> None:
    """Adds to ``counts`` how the inputs of ``numbers`` of ``seed``, made from the files in ``good``, ended; stops when the clock (`time.monotonic`) says ``until``.

    Files that ended in a fault are copied to ``kept``.
    """
    at = numbers.start
    while at < numbers.stop and time.monotonic() < until:
        with tempfile.TemporaryDirectory(prefix="firsttoken-fuzz-") as place:
            for number, outcome, said in _batch(reader, good, Path(place, "files"), seed, range(at, min(at + BATCH, numbers.stop)), until):
                at = number + 1
                counts.ended[outcome] += 1
                if outcome in FAULTS:
                    counts.faults[number] = outcome, said
                    if kept is not None:
                        keep(reader, good, seed, number, kept, f"{outcome}: {said}")


def make_input(reader: Reader, good: Path, folder: Path, seed: int, number: int) -> Path:
    """Puts input ``number`` of ``seed`` into ``folder``: all good files, one of them damaged, which is returned."""
    random = Random(f"{seed} {reader.name} {number}")
    name = random.choice(reader.files)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    path = folder / name
    if random.random() < ODD_FILES:
        put_odd_file(path, random)
    else:
        path.write_bytes(reader.mutate(path.read_bytes(), random))
    return path


def keep(reader: Reader, good: Path, seed: int, number: int, kept: Path, said: str) -> None:
    """Copies an input to look at, with what was said of it."""
    place = kept / f"{reader.name}-{seed}-{number}"
    make_input(reader, good, place, seed, number)
    (place / "FAULT.txt").write_text(said, encoding="utf-8", errors="backslashreplace")


def _batch(reader: Reader, good: Path, folder: Path, seed: int, numbers: range, until: float) -> Iterator[tuple[int, str, str]]:
    """Yields number, outcome and words of each input; a process that dies leaves the rest of its batch to the next one."""
    ours, theirs = os.pipe()
    sys.stdout.flush()  # what is in the buffer would be written by the child again
    child = os.fork()
    if child == 0:
        os.close(ours)
        try:
            _work(reader, good, folder, seed, numbers, until, theirs)
        except BaseException:
            os.write(theirs, json.dumps([-1, "fault of the fuzzing", traceback.format_exc()]).encode() + b"\n")
        finally:
            os._exit(0)
    os.close(theirs)
    begun = None
    with os.fdopen(ours, encoding="utf-8") as stream:
        for line in stream:
            said = json.loads(line)
            assert said[0] >= 0, said[2]
            if len(said) == 1:
                [begun] = said
            else:
                begun = None
                yield tuple(said)
    _, status = os.waitpid(child, 0)
    if begun is not None:
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        ending = signal.Signals(number).name if number else f"exit code {os.waitstatus_to_exitcode(status)}"
        yield begun, "hang" if number in (signal.SIGALRM, signal.SIGPROF) else "died", ending


def _work(reader: Reader, good: Path, folder: Path, seed: int, numbers: range, until: float, out: int) -> None:
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + GROWTH, size + GROWTH))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in numbers:
        if time.monotonic() > until:
            return
        path = make_input(reader, good, folder, seed, number)
        os.write(out, json.dumps([number]).encode() + b"\n")
        # their signals end the process, wherever it is
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)
        outcome, said = outcome_of(reader, path)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.write(out, json.dumps([number, outcome, said[-3000:]]).encode() + b"\n")


def outcome_of(reader: Reader, path: Path) -> tuple[str, str]:
    """Reads once and says how it ended."""
    try:
        reader.read(path)
    except FirstTokenError as error:
        said = str(error)
        fit = (
            "\n" not in said and not any(ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 for letter in said) and len(said) < LONGEST_MESSAGE
        )
        return ("refused" if fit else "unfit"), said
    except MemoryError:
        return "growth", traceback.format_exc()
    except BaseException:  # a panic of a library in Rust is no Exception
        return "traceback", traceback.format_exc()
    return "read", ""


def show(name: str, counts: Counts) -> str:
    """One line of figures."""
    figures = ", ".join(f"{counts.ended[outcome]} {outcome}" for outcome in ("read", "refused", *FAULTS))
    return f"{name:18} {counts.inputs:7} inputs: {figures}"
