#!/usr/bin/env python3
"""A .pte through ExecuTorch's Python bindings and through its C++ runtime: start, first token, decode, memory.

    firsttoken export smollm2 -p int8 -t executorch-xnnpack -o out
    .venv/bin/python scripts/benchmarks/executorch_runner.py out/executorch-xnnpack

Each start is a process of its own; the three take turns, round by round: the bindings, a native start that packs the weights (the cache folder is emptied
before), and one that finds them packed. "runtime" is importing or loading what runs the file, "load" the file itself; then a prompt of random tokens, the
same again (warm), and steps of decode. Memory is the process's at its end (`/proc/self/smaps_rollup`): private pages and, of these, those that no file holds.
Medians over the rounds; the logits of all must be equal to the bit.
"""

import argparse
import hashlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from firsttoken.bundle.manifest import read_manifest
from firsttoken.quiet import quiet_runtime

SIDES = {"bindings": "Python bindings", "packing": "native, first start", "kept": "native, later starts"}
TIMES = ("runtime", "load", "first token", "warm", "decode")
MIB = 1 << 20


def start(bundle: Path, native: bool, threads: int, length: int, steps: int):
    """What one process does; prints its figures, milliseconds and bytes."""
    manifest, laps = read_manifest(bundle), [time.perf_counter()]

    def lap():
        laps.append(time.perf_counter())

    from firsttoken.backends.executorch import runner as executorch

    with quiet_runtime():
        if native:
            library, why = executorch.native_library()
            if library is None:
                raise SystemExit(f"no native runner: {why}")
        else:
            executorch.import_runtime()
    lap()
    runner = executorch.ExecutorchRunner(bundle / manifest.cpu.file, manifest, threads, weight_cache=native, native=native)
    lap()
    tokens = np.random.default_rng(3).integers(0, runner.vocab_size, length + steps)
    logits = [runner.prefill(tokens[:length]).copy()]
    lap()
    runner.reset()
    logits.append(runner.prefill(tokens[:length]).copy())
    lap()
    for token in tokens[length:]:
        logits.append(runner.decode(int(token)).copy())
    lap()
    found = dict(zip(TIMES, (1e3 * (b - a) for a, b in itertools.pairwise(laps)), strict=True))
    found["decode"] /= steps
    lines = dict(line.split(":") for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    kib = {name: int(value.split()[0]) << 10 for name, value in lines.items()}
    found |= {"private": kib["Private_Clean"] + kib["Private_Dirty"], "anonymous": kib["Anonymous"], "resident": kib["Rss"]}
    found["logits"] = hashlib.sha256(np.stack(logits).tobytes()).hexdigest()
    print(json.dumps(found))


def measured(bundle: Path, side: str, cache: Path, asked) -> dict:
    if side == "packing":
        shutil.rmtree(cache / "firsttoken/xnnpack", ignore_errors=True)
    command = [
        sys.executable, __file__, str(bundle), "--start", side, "--threads", str(asked.threads), "--tokens", str(asked.tokens), "--steps", str(asked.steps),
    ]  # fmt: skip
    done = subprocess.run(command, env=os.environ | {"XDG_CACHE_HOME": str(cache)}, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--start", choices=SIDES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.start:
        start(asked.bundles[0], asked.start != "bindings", asked.threads, asked.tokens, asked.steps)
        return
    print("| bundle | by | runtime | load | first token | warm | decode step | private MiB | anonymous | resident |")
    print("|:--|:--|--:|--:|--:|--:|--:|--:|--:|--:|")
    for bundle in asked.bundles:
        with tempfile.TemporaryDirectory() as cache:
            rounds = [{side: measured(bundle, side, Path(cache), asked) for side in SIDES} for _ in range(asked.rounds + 1)][
                1:
            ]  # the first builds
        if len({found["logits"] for one in rounds for found in one.values()}) != 1:
            raise SystemExit(f"{bundle}: the ways give other logits")
        middle = {
            side: {name: statistics.median(one[side][name] for one in rounds) for name in (*TIMES, "private", "anonymous", "resident")}
            for side in SIDES
        }
        for side, shown in SIDES.items():
            found = middle[side]
            times = " | ".join(f"{found[name]:.1f} ms" for name in TIMES)
            sizes = " | ".join(f"{found[name] / MIB:.0f}" for name in ("private", "anonymous", "resident"))
            print(f"| {bundle.name} of {read_manifest(bundle).checkpoint.name} | {shown} | {times} | {sizes} |", flush=True)
        before, after = middle["bindings"], middle["kept"]
        whole = [sum(found[name] for name in TIMES[:2]) for found in (after, before)]
        print(
            f"\nlater native starts against the bindings: load {after['load'] / before['load']:.3f}, with the runtime {whole[0] / whole[1]:.3f}; "
            f"private memory {after['private'] / before['private']:.3f}, anonymous {after['anonymous'] / before['anonymous']:.3f}; all logits equal to the bit\n"
        )


if __name__ == "__main__":
    main()
