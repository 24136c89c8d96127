#!/usr/bin/env python3
"""What a first question takes behind a kept system prompt, beside the whole computed.

    firsttoken export smollm2 -p int8 -o out --system-prompt assistant.txt
    .venv/bin/python scripts/benchmarks/kept_prefix.py out/tflite-xnnpack

Both sides take turns on one loaded bundle; a ratio is of two neighbours. Printed are the median and the least of the times, the median of the ratios, and
whether the next token is the same.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from firsttoken.bundle.manifest import read_manifest
from firsttoken.run.open import open_runner


def timed(runner, tokens):
    """Milliseconds until the next token is known, from an empty cache, and that token."""
    runner.reset()
    started = time.perf_counter()
    logits = runner.prefill(tokens[runner.keep_prefix(tokens) :])
    return (time.perf_counter() - started) * 1e3, int(np.argmax(logits))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--new", type=int, default=32, help="tokens of the question")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    print("| bundle | system prompt | kept in | MiB | kept: median, least | computed: median, least | ratio | same token |")
    print("|:--|--:|:--|--:|--:|--:|--:|--:|")
    for bundle in asked.bundles:
        manifest = read_manifest(bundle)
        if manifest.prefix is None:
            raise SystemExit(f"{bundle}: keeps no system prompt; export it with --system-prompt FILE")
        runner = open_runner(bundle, asked.threads)
        prefix, rng = runner.prefix, np.random.default_rng(3)
        kept, computed, same = [], [], 0
        for turn in range(asked.rounds + 1):
            tokens = np.concatenate([prefix.tokens, rng.integers(0, runner.vocab_size, asked.new)])
            runner.prefix = prefix
            took, one = timed(runner, tokens)
            runner.prefix = None
            whole, other = timed(runner, tokens)
            if turn:  # the first prepares
                kept.append(took)
                computed.append(whole)
                same += one == other
        runner.close()
        ratio = statistics.median(a / b for a, b in zip(kept, computed, strict=True))
        shown = " | ".join(f"{statistics.median(times):.1f} ms, {min(times):.1f}" for times in (kept, computed))
        size = manifest.files[manifest.prefix.file].bytes / (1 << 20)
        print(
            f"| {bundle.name} of {manifest.checkpoint.name} | {len(prefix.tokens)} | {manifest.prefix.stored} | {size:.1f} | {shown} | {ratio:.3f} | {same} of {asked.rounds} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
