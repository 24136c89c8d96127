"""Milliseconds per input of modules' bundles on this machine: the load, the first run and warm ones, in fresh processes that take turns."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from firsttoken.backends.module_registry import find_module_backend
from firsttoken.bundle.files import check_files
from firsttoken.bundle.module_manifest import ModuleManifest, read_module_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.last_words import signal_name
from firsttoken.measure.page_cache import PageState, drop
from firsttoken.progress import Report, silent
from firsttoken.safe_text import visible

PROCESSES = 3  # of each bundle, whose loads and first runs are compared
SECONDS = 600  # one process may take


@dataclass
class Timed:
    """Nanoseconds of one bundle's method on one sample: ``load`` and ``first`` of each process, ``warm`` of all its later runs, ``cold`` the load and first
    run together after the file was dropped from the page cache. ``pages`` says whether it was."""

    bundle: Path
    method: str
    plan: str
    backend: str
    sizes: dict[str, int]
    artifact_bytes: int
    threads: int
    load: list[int] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    warm: list[int] = field(default_factory=list)
    cold: list[int] = field(default_factory=list)
    pages: PageState | None = None

    @property
    def summary(self) -> dict[str, float]:
        """Medians in milliseconds, and the least of the warm runs and their 90th percentile."""
        found = {name: statistics.median(values) / 1e6 for name in ("load", "first", "warm", "cold") if (values := getattr(self, name))}
        ordered = sorted(self.warm)
        return found | {"warm_min": ordered[0] / 1e6, "warm_p90": ordered[int(0.9 * (len(ordered) - 1))] / 1e6}

    @property
    def document(self) -> dict:
        """For programs: every time in nanoseconds, and the medians."""
        return {**asdict(self), "milliseconds": self.summary}


def bench_modules(
    bundles: Sequence[str | Path], repeat: int = 50, threads: int = 1, cold: bool = False, report: Report = silent
) -> list[Timed]:
    """Measures every method of every bundle, one sample in a call where it has a batch of one. Raises `FirstTokenError` for a damaged bundle, or a run that failed."""
    rows = [row for bundle in bundles for row in rows_of(Path(bundle), threads, report)]
    rounds = PROCESSES + (1 if cold else 0)
    for number in range(rounds):
        for place, row in enumerate(rows):
            report("measuring", number * len(rows) + place, rounds * len(rows), "processes")
            is_cold = number == PROCESSES
            if is_cold:
                row.pages = drop([row.bundle / read_module_manifest(row.bundle).artifact.file])
            answer = run_once(row, 1 if is_cold else repeat)
            if is_cold:
                row.cold.append(answer["load"] + answer["first"])
                continue
            row.load.append(answer["load"])
            row.first.append(answer["first"])
            row.warm += answer["warm"]
    report("measuring", 1, 1, "processes")
    return rows


def rows_of(bundle: Path, threads: int, report: Report) -> list[Timed]:
    """What of a bundle is measured: each of its methods, of those that differ in the batch alone the smallest; of one that takes any size each of its lengths."""
    manifest = read_module_manifest(bundle)
    check_files(bundle, manifest, report)
    find_module_backend(manifest.artifact.backend)
    rows: dict[tuple, Timed] = {}
    for method in manifest.artifact.methods:
        for sizes in [method.sizes] if method.sizes else sizes_of(manifest):
            key = tuple(sorted((name, size) for name, size in sizes.items() if name != "batch"))
            facts = manifest.files[manifest.artifact.file]
            row = Timed(bundle, method.name, manifest.plan.name, manifest.artifact.backend, dict(sizes), facts.bytes, threads)
            if key not in rows or rows[key].sizes.get("batch", 1) > sizes.get("batch", 1):
                rows[key] = row
    return list(rows.values())


def sizes_of(manifest: ModuleManifest) -> list[dict[str, int]]:
    """Every length of a module whose artifact takes any, with a batch of one."""
    import itertools

    lengths = {name: [1] if name == "batch" else sizes for name, sizes in manifest.module.lengths.items()}
    return [dict(zip(lengths, chosen, strict=True)) for chosen in itertools.product(*lengths.values())]


def run_once(row: Timed, repeat: int) -> dict:
    """One fresh process. Raises `FirstTokenError` for one that failed, died or took too long."""
    command = [
        sys.executable,
        "-m",
        "firsttoken.module_bundles.bench_worker",
        str(row.bundle),
        row.method,
        json.dumps(row.sizes),
        str(repeat),
        str(row.threads),
    ]
    with tempfile.TemporaryFile() as errors:
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise FirstTokenError(
                f"bundle {row.bundle}: a run took longer than {SECONDS} s and was stopped; give fewer with --repeat"
            ) from None
        errors.seek(0)
        said = errors.read()[-300:].decode(errors="replace").strip()
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        ended = signal_name(-done.returncode) if done.returncode < 0 else f"exit status {done.returncode}"
        raise FirstTokenError(
            f"bundle {row.bundle}: its process ended with {ended} ({visible(said, 200)}); export it again, or see with -v"
        ) from None
    if "error" in answer:
        raise FirstTokenError(answer["error"])
    return answer
