"""One fresh process that loads one module's bundle and runs it: times as JSON on its standard output, nanoseconds."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from firsttoken.backends.module_registry import find_module_backend
from firsttoken.bundle.module_manifest import ModuleEntry, read_module_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.module_bundles.prove import lowered_of


def made_inputs(entry: ModuleEntry, lengths: dict[str, list[int]], sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Inputs of one sample of the asked sizes: floats drawn around 0, whole numbers 1, which every table has."""
    random = np.random.default_rng(0)
    found = {}
    for one in entry.inputs:
        shape = [sizes.get(size, entry.sizes.get(size, lengths.get(size, [1])[0])) if isinstance(size, str) else size for size in one.shape]
        whole = one.dtype.startswith("int") and one.scale is None
        found[one.name] = (
            np.ones(shape, np.int64 if one.dtype == "int64" else np.int32) if whole else random.standard_normal(shape).astype(np.float32)
        )
    return found


def measure(bundle: Path, entry: ModuleEntry, sizes: dict[str, int], repeat: int, threads: int) -> dict:
    """Loads the bundle, runs it once, then warm at least ``repeat`` times and for a fifth of a second, 2000 times at most."""
    manifest = read_module_manifest(bundle)
    backend, lowered = find_module_backend(manifest.artifact.backend), lowered_of(manifest)
    inputs = made_inputs(entry, manifest.module.lengths, sizes)
    begun = time.perf_counter_ns()
    runner = backend.open(bundle / manifest.artifact.file, lowered.methods, threads)
    load = time.perf_counter_ns() - begun
    try:
        runs: list[int] = []
        while len(runs) <= repeat or (sum(runs) < 200_000_000 and len(runs) < 2000):
            begun = time.perf_counter_ns()
            runner.run(inputs)
            runs.append(time.perf_counter_ns() - begun)
    finally:
        runner.close()
    return {"load": load, "first": runs[0], "warm": runs[1:]}


def main() -> None:
    """Takes the bundle, the method's name, sizes as JSON, runs, threads. An error is a line of JSON too."""
    bundle, name, sizes, repeat, threads = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # runtimes write what they like to standard output
    try:
        entry = next(one for one in read_module_manifest(bundle).artifact.methods if one.name == name)
        find_module_backend(read_module_manifest(bundle).artifact.backend)
        answer = measure(bundle, entry, sizes, repeat, threads)
    except FirstTokenError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
