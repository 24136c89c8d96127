#!/usr/bin/env python3
"""One side of the benchmarks: a firsttoken bundle in its own runtime (see turns.py).

First token: prefill and picking the best token; decode: one decode call and picking the best token.
"""

import time
from pathlib import Path

from turns import parse, serve


def main():
    options = parse(
        __doc__,
        "bundle folder",
        lambda parser: parser.add_argument("--logits", type=Path, help="only write the prompt's logits here (.npy)"),
    )
    import numpy as np

    from firsttoken.backends.registry import find_backend
    from firsttoken.bundle.manifest import read_manifest
    from firsttoken.quiet import quiet_runtime
    from firsttoken.run.open import open_runner

    with quiet_runtime():
        # as the other sides: loading is timed without Python's imports
        find_backend(read_manifest(options.model).cpu.backend).preload()
        start = time.perf_counter()
        runner = open_runner(options.model, options.threads)
        load = time.perf_counter() - start
    prompt = np.random.default_rng(0).integers(0, runner.vocab_size, options.prompt)
    if options.logits:
        np.save(options.logits, runner.prefill(prompt))
        return

    def turn() -> tuple[float, float]:
        runner.reset()
        start = time.perf_counter()
        token = int(runner.prefill(prompt).argmax())
        first = time.perf_counter()
        for _ in range(options.decode):
            token = int(runner.decode(token).argmax())
        return first - start, (time.perf_counter() - first) / options.decode

    serve(load, turn)


if __name__ == "__main__":
    main()
