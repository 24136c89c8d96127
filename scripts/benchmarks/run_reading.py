#!/usr/bin/env python3
"""What no decode step can go below: reading a model's bytes from memory once, on the given threads (see turns.py).

``decode`` is the seconds for one reading of the whole file. A decode step of a model that does not fit the processor's caches reads
every weight, so where its time is near this figure the step waits for memory and no graph makes it shorter; only fewer bytes do.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from turns import parse, serve


def main():
    options = parse(__doc__, "any file")
    start = time.perf_counter()
    words = np.fromfile(options.model, np.uint64)
    parts = np.array_split(words, options.threads)
    load = time.perf_counter() - start

    with ThreadPoolExecutor(options.threads) as threads:

        def turn() -> tuple[float, float]:
            took = []
            for _ in range(options.decode):
                begin = time.perf_counter()
                list(threads.map(np.max, parts))
                took.append(time.perf_counter() - begin)
            return took[0], sum(took) / len(took)

        serve(load, turn)


if __name__ == "__main__":
    main()
