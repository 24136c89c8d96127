#!/usr/bin/env python3
"""What the second turn of a conversation takes: its new tokens over the kept cache, beside the whole conversation from the start.

    .venv/bin/python scripts/benchmarks/conversation_turns.py out/tflite-xnnpack out/executorch-xnnpack

Both sides take turns on one loaded bundle, with random tokens; a ratio is of two neighbours. Printed are the median and the least of the times, and
the median of the ratios. Both give the same logits but for rounding, which is checked.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from firsttoken.run.open import open_runner


def timed(runner, tokens):
    """Seconds until the next token is known, over what the cache keeps, and that token."""
    started = time.perf_counter()
    logits = runner.prefill(tokens[runner.keep_prefix(tokens) :])
    return time.perf_counter() - started, int(np.argmax(logits))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--before", type=int, nargs="+", default=[200, 600], help="tokens of the conversation so far")
    parser.add_argument("--new", type=int, default=32, help="tokens of the next question")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    print("| bundle | tokens before | kept: median, least | from the start: median, least | ratio | same token |")
    print("|:--|--:|--:|--:|--:|--:|")
    for bundle in asked.bundles:
        runner = open_runner(bundle, asked.threads)
        for before in asked.before:
            rng = np.random.default_rng(before)
            shared = rng.integers(0, runner.vocab_size, before)
            kept, whole, same = [], [], 0
            for turn in range(asked.rounds + 1):
                tokens = np.concatenate([shared, rng.integers(0, runner.vocab_size, asked.new)])
                runner.reset()
                runner.prefill(shared)
                took, one = timed(runner, tokens)
                runner.reset()
                from_start, other = timed(runner, tokens)
                if turn:  # the first prepares
                    kept.append(took)
                    whole.append(from_start)
                    same += one == other
            ratio = statistics.median(a / b for a, b in zip(kept, whole, strict=True))
            shown = " | ".join(f"{statistics.median(times) * 1e3:.1f} ms, {min(times) * 1e3:.1f}" for times in (kept, whole))
            print(
                f"| {bundle.name} of {runner.manifest.checkpoint.name} | {before} | {shown} | {ratio:.2f} | {same} of {asked.rounds} |",
                flush=True,
            )
        runner.close()


if __name__ == "__main__":
    main()
