"""Running a process and measuring it, and writing down what was found; shared by the benchmark scripts.

Keep the importing script small: Linux counts the memory of the parent at the moment of the start into a child's peak.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
WORK = REPOSITORY / ".work" / "benchmarks"
TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


@dataclass
class Measured:
    """One finished process. ``other_load``: cores that everything else on the machine kept busy meanwhile."""

    seconds: float
    peak_rss: int  # bytes, the largest process of the tree
    cpu_seconds: float
    other_load: float


def busy_seconds() -> float:
    """CPU seconds of all processes since boot, without idle and waiting for disks."""
    user, nice, system, _, _, irq, softirq, *_ = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    return sum(map(int, (user, nice, system, irq, softirq))) / TICKS


class Quiet(NamedTuple):
    """How quiet the machine must be before a run: fewer than ``cores`` busy; after ``patience`` seconds it goes ahead anyway."""

    cores: float
    patience: float


ANY_LOAD = Quiet(1e9, 0)


def wait_for_quiet(quiet: Quiet, window: float = 2.0) -> float:
    """Waits until the machine is quiet; returns the last load in busy cores, quiet or not."""
    if quiet == ANY_LOAD:
        return -1.0
    deadline = time.monotonic() + quiet.patience
    while True:
        busy, start = busy_seconds(), time.monotonic()
        time.sleep(window)
        load = (busy_seconds() - busy) / (time.monotonic() - start)
        if load < quiet.cores or time.monotonic() > deadline:
            return load


def run_measured(
    command: Sequence[str | Path], log: Path, environment: dict[str, str] | None = None, accepted: Sequence[int] = (0,)
) -> Measured:
    """Runs a command to its end, its output in ``log``. Raises `SystemExit` with the log's tail if its status is not accepted."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as stream:
        busy, start = busy_seconds(), time.monotonic()
        process = subprocess.Popen(
            [str(c) for c in command], stdout=stream, stderr=stream, env=os.environ | (environment or {}), cwd=log.parent
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in accepted:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise SystemExit(f"{' '.join(map(str, command))}\nfailed with {process.returncode}:\n{tail}")
    used = usage.ru_utime + usage.ru_stime
    other = max(0.0, (busy_seconds() - busy - used) / seconds)
    return Measured(seconds, usage.ru_maxrss * 1024, used, other)


class Side:
    """A benchmark process that does one turn at a time: start, any number of turns, stop. See turns.py for its end."""

    def __init__(self, command: Sequence[str | Path], log: Path, environment: dict[str, str] | None = None):
        log.parent.mkdir(parents=True, exist_ok=True)
        self.command, self.log, self.process = [str(c) for c in command], log, None
        self.environment = os.environ | (environment or {})

    def start(self) -> dict:
        """Starts the process; returns what it reports of loading and its first prompt."""
        with open(self.log, "wb") as stream:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, text=True, env=self.environment
            )
        return self._report()

    def turn(self) -> dict:
        """Lets the process run one prompt and decode; adds ``other_load``, the cores that everything else kept busy."""
        busy, used, start = busy_seconds(), self._cpu_seconds(), time.monotonic()
        print("turn", file=self.process.stdin, flush=True)
        report = self._report()
        other = busy_seconds() - busy - (self._cpu_seconds() - used)
        return report | {"other_load": max(0.0, other / (time.monotonic() - start))}

    def stop(self) -> dict:
        """Ends the process; returns what it reports of memory."""
        print("stop", file=self.process.stdin, flush=True)
        report = self._report()
        self.process.wait()
        return report

    def _cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def _report(self) -> dict:
        for line in self.process.stdout:
            if line.startswith("{"):  # the runtimes may print, too
                return json.loads(line)
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])
        raise SystemExit(f"{' '.join(self.command)}\nended with {self.process.wait()}:\n{tail}")


def take_turns(make: dict[str, Callable[[], Side]], processes: int, rounds: int, quiet: Quiet) -> dict[str, list[dict]]:
    """Runs the sides against each other: ``processes`` fresh sets of processes, ``rounds`` turns A B A B in each.

    A set is loaded and then takes turns while the others wait, so that slow moments of the machine fall on all of them.
    A round in which anything else kept more than ``quiet.cores`` busy is repeated, up to three times as many rounds.
    Returns one dict per process and side: the reports of start and stop, and "turns" with equal length on all sides.
    """
    samples: dict[str, list[dict]] = {name: [] for name in make}
    for number in range(processes):
        names = list(make) if number % 2 == 0 else list(reversed(make))
        sides, found = {}, {}
        for name in names:
            wait_for_quiet(quiet)
            sides[name] = make[name]()
            found[name] = sides[name].start()
        kept, spare = [], []
        while len(kept) < rounds and len(kept) + len(spare) < 3 * rounds:
            turns = {name: sides[name].turn() for name in names}
            (kept if max(turn["other_load"] for turn in turns.values()) <= quiet.cores else spare).append(turns)
        chosen = kept + spare[: rounds - len(kept)]
        for name in names:
            samples[name].append(found[name] | sides[name].stop() | {"turns": [turns[name] for turns in chosen]})
        print(f"set {number + 1}/{processes}: {len(kept)} quiet rounds, {len(spare)} disturbed", file=sys.stderr, flush=True)
    return samples


def per_turn(samples: list[dict], key: str) -> list[float]:
    """All turns' values of one side, or its processes' where the value is one per process."""
    if key in samples[0]:
        return [sample[key] for sample in samples]
    return [turn[key] for sample in samples for turn in sample["turns"]]


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 3) -> str:
    """Median and minimum as text."""
    return f"{statistics.median(values) * scale:.{digits}f} ({min(values) * scale:.{digits}f})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Ours over theirs, pair by pair: the median of the ratios and their middle half, as text."""
    pairs = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    quarter = len(pairs) // 4
    return f"{statistics.median(pairs):.2f}× ({pairs[quarter]:.2f}–{pairs[-1 - quarter]:.2f})"


def disturbance(samples: Sequence[dict[str, list[dict]]]) -> str:
    """Says how much else went on during the turns that count."""
    loads = [turn["other_load"] for of in samples for side in of.values() for sample in side for turn in sample["turns"]]
    return f"Cores kept busy by others during a turn: median {statistics.median(loads):.2f}, most {max(loads):.2f}."


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns a Markdown table; the first column is left-aligned, the others right-aligned."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def machine() -> dict:
    """What the figures depend on: processor, cores, memory, package versions."""
    processor = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        platform.machine(),
    )
    packages = {}
    for name in ("firsttoken", "litert-torch", "litert-lm", "ai-edge-litert", "executorch", "torch", "torchao", "transformers"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"processor": processor, "cores": len(os.sched_getaffinity(0)), "memory_mib": memory // MIB, "packages": packages}


def publish(work: Path, name: str, tables: Sequence[str], data: dict):
    """Prints the tables and writes ``name``.md and ``name``.json to the work folder."""
    text = "\n\n".join(tables)
    (work / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    (work / f"{name}.json").write_text(json.dumps({"machine": machine()} | data, indent=1, default=vars) + "\n", encoding="utf-8")
    print(text)
    print(f"\nwritten: {work / name}.md, .json", file=sys.stderr)


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the options all benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work",
        type=lambda text: Path(text).absolute(),
        default=WORK,
        help="folder for checkpoints, exports, logs and results (default: .work/benchmarks in the repository)",
    )
    parser.add_argument(
        "--quiet", type=lambda text: Quiet(*map(float, text.split(":"))), default=Quiet(0.15, 120), metavar="CORES:SECONDS",
        help="before each run, wait until fewer cores than this are busy, but not longer than this (default: 0.15:120)",
    )  # fmt: skip
    return parser


def require_checkpoint(work: Path, name: str) -> Path:
    """Returns the folder of a generated checkpoint. Raises `SystemExit` that says how to make it."""
    folder = work / "checkpoints" / name
    if not (folder / "model.safetensors").is_file():
        raise SystemExit(f"{folder} is missing; make it with: python scripts/benchmarks/make_checkpoint.py {name}")
    return folder
