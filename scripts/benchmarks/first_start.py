#!/usr/bin/env python3
"""What starts take: the first one, where weights are packed; later ones, where they are kept; and a first one with packed weights in the bundle.

    .venv/bin/python scripts/benchmarks/first_start.py smollm2
    .venv/bin/python scripts/benchmarks/first_start.py .work/benchmarks/checkpoints/qwen-0.5b --rounds 5
    .venv/bin/python scripts/benchmarks/first_start.py smollm2 --cold

Two bundles are exported into --work, unless they are there: one as ever, and one with --pack-for host --packed-only. Each start is a process of its own
with its own cache folder, and all kinds take turns. "check" is hashing the bundle's files and looking through the graphs, which a first start does; "load" opens model and runtime
(Python's imports not counted); CPU is what load and token kept cores busy, of all threads, which other work on the machine disturbs less; "token" is the first token after --tokens tokens. --cold drops the files from the page cache before each start, and adds the later starts without
advice to the kernel (backends/tflite/page_advice.py). --stock adds LiteRT-LM, as run_litert_lm.py runs it; its first start packs into its cache folder, its later ones read that.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure_process import WORK

KINDS = ("first", "second", "packed first", "packed second")
UNADVISED = ("second, no advice", "packed second, no advice")
STOCK = ("LiteRT-LM first", "LiteRT-LM second")


def one_start(bundle: Path, tokens: int, threads: int, advised: bool) -> None:
    """The child: prints the three times in ms, and the token."""
    import ai_edge_litert.schema_py_generated  # noqa: F401  what imports take is not a start's
    import numpy as np

    from firsttoken import last_words
    from firsttoken.backends.registry import find_backend
    from firsttoken.backends.tflite import runner as tflite_runner
    from firsttoken.backends.tflite.litert import library
    from firsttoken.bundle.files import check_file, check_files
    from firsttoken.bundle.manifest import read_manifest
    from firsttoken.run.open import open_runner

    if not advised:
        tflite_runner.read_ahead = tflite_runner.read_single_pages = lambda path: None
    last_words.say_into(2)  # as a command does: nothing is tried in another process first
    library()
    prompt = np.random.default_rng(5).integers(0, 1000, tokens)
    begin = time.perf_counter()
    manifest = read_manifest(bundle)
    check_files(bundle, manifest)
    for name in manifest.packed_names:
        check_file(bundle / name, manifest.files[name])
    find_backend(manifest.cpu.backend).verify(bundle, manifest.cpu)
    checked, used = time.perf_counter(), time.process_time()
    runner = open_runner(bundle, threads, check=False)
    loaded = time.perf_counter()
    token = int(runner.prefill(prompt).argmax())
    done, busy = time.perf_counter(), time.process_time() - used
    print(json.dumps({"check": checked - begin, "load": loaded - checked, "token": done - loaded, "busy": busy, "answer": token}))


def start(bundle: Path, cache: Path, asked: argparse.Namespace, advised: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", str(bundle), "--tokens", str(asked.tokens), "--threads", str(asked.threads)]
    command += [] if advised else ["--no-advice"]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=said, text=True)
        if done.returncode:
            said.seek(0)
            raise SystemExit(said.read()[-2000:])
    return json.loads(done.stdout)


def stock_start(cache: Path, asked: argparse.Namespace) -> dict[str, float]:
    command = [
        sys.executable,
        str(Path(__file__).with_name("run_litert_lm.py")),
        str(asked.stock),
        "--prompt",
        str(asked.tokens),
        "--decode",
        "2",
    ]
    command += ["--threads", str(asked.threads), "--cache", str(cache), "--cache-length", str(asked.stock_room)]
    done = subprocess.run(command, input="", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[0])
    return {"check": 0.0, "load": said["load"], "token": said["cold_first"], "busy": float("nan")}


def one_of_each(whole: Path, packed: Path, scratch: Path, asked: argparse.Namespace, found: dict[str, list[dict[str, float]]]) -> None:
    """A start of each kind, in the order in which later ones find what earlier ones kept."""
    for kind, runs in found.items():
        bundle = asked.stock if kind in STOCK else packed if kind.startswith("packed") else whole
        cache = scratch / ("stock" if kind in STOCK else "packed" if kind.startswith("packed") else "whole")
        cache.mkdir(exist_ok=True)
        if asked.cold:
            dropped(bundle, cache)
        runs.append(stock_start(cache, asked) if kind in STOCK else start(bundle, cache, asked, kind not in UNADVISED))


def dropped(*folders: Path) -> None:
    from firsttoken.measure.page_cache import drop

    state = drop(path for folder in folders for path in (folder, *folder.rglob("*")) if path.is_file())
    if state != "dropped":
        raise SystemExit(f"the files' pages cannot be dropped here ({state}); leave out --cold")


def exported(checkpoint: str, work: Path, plan: str) -> tuple[Path, Path]:
    from firsttoken.pipeline import export

    folders = []
    for name, how in (("whole", {}), ("packed", {"pack_for": ["host"], "packed_only": True})):
        place = work / name / "tflite-xnnpack"
        if not place.is_dir():
            export(checkpoint, work / name, plan, prove=False, say=lambda line: print(line, file=sys.stderr), **how)
        folders.append(place)
    return folders[0], folders[1]


def bytes_of(folder: Path, pattern: str = "*") -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", default="smollm2")
    parser.add_argument("--plan", default="int8")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--stock", type=Path, metavar="FILE", help="a model.litertlm of the same checkpoint (see export_tflite.py)")
    parser.add_argument(
        "--stock-room", type=int, default=1280, metavar="TOKENS", help="its longest prompt and answer together (default: 1280)"
    )
    parser.add_argument("--work", type=Path, help="default: .work/benchmarks/first-start/<checkpoint>-<plan>")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--no-advice", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        one_start(asked.child, asked.tokens, asked.threads, not asked.no_advice)
        return
    work = asked.work or WORK / "first-start" / f"{Path(asked.checkpoint).name}-{asked.plan}"
    whole, packed = exported(asked.checkpoint, work, asked.plan)
    kinds = KINDS + (UNADVISED if asked.cold else ()) + (STOCK if asked.stock else ())
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(asked.rounds):
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            one_of_each(whole, packed, Path(scratch), asked, found)
            kept = bytes_of(Path(scratch, "whole"), "*.cache")
            shutil.rmtree(scratch)
            os.mkdir(scratch)
    answers = {run["answer"] for kind, runs in found.items() if kind not in STOCK for run in runs}
    assert len(answers) == 1, f"the starts disagree: {answers}"
    report(found)
    stored, before = bytes_of(packed, "model.*"), bytes_of(whole, "model.*") + kept
    print(
        f"\nstored: {stored / 2**20:.0f} MiB ({', '.join(f'{path.name} {path.stat().st_size / 2**20:.0f}' for path in sorted(packed.glob('model.*')))}), "
        f"before {before / 2**20:.0f} MiB (artifact and kept weights): {stored / before:.2f}"
    )


def report(found: dict[str, list[dict[str, float]]]) -> None:
    print(
        "| start | check ms | load ms | token ms | load + token, ms: median, least | of first, of second | CPU ms: median, least | of first, of second |"
    )
    print("|:--|--:|--:|--:|--:|--:|--:|--:|")
    times = {kind: [run["load"] + run["token"] for run in runs] for kind, runs in found.items()}
    busy = {kind: [run["busy"] for run in runs] for kind, runs in found.items()}
    for kind, runs in found.items():
        parts = " | ".join(f"{statistics.median(run[part] for run in runs) * 1e3:.0f}" for part in ("check", "load", "token"))
        print(f"| {kind} | {parts} | {beside(times, kind)} | {beside(busy, kind)} |")


def beside(times: dict[str, list[float]], kind: str) -> str:
    """Median and least, and the ratios of the least to those of the first and of the second start."""
    least = min(times[kind])
    ratios = ", ".join(f"{least / min(times[other]):.2f}" for other in ("first", "second"))
    return f"{statistics.median(times[kind]) * 1e3:.0f}, {least * 1e3:.0f} | {ratios}"


if __name__ == "__main__":
    main()
