#!/usr/bin/env python3
"""First token and decoding on .tflite: firsttoken's int8 bundle against the stock bundle run by LiteRT-LM.

Same checkpoint, same precisions, same threads. Fresh processes of both sides are loaded and take turns, A B A B, so
that slow moments of the machine fall on both; ratios are of neighbouring turns.

Ours: wall time around prefill and picking the best token. Theirs: LiteRT-LM's own "time to first token", prefill plus
the mean decode step, in its benchmark mode with the same token counts (see run_litert_lm.py). Neither has tokenizing
in it. "Second start" is loading with each side's disk cache filled, and the first prompt after it: once with all files
in the page cache, once after they were dropped from it. Run export_tflite.py first.
"""

import os
import sys
from itertools import chain
from pathlib import Path

from measure_process import ANY_LOAD, MIB, Side, arguments, disturbance, per_turn, publish, ratio, spread, table, take_turns

HERE = Path(__file__).resolve().parent
OURS, STOCK = "firsttoken", "LiteRT-LM"


def drop_from_page_cache(folders: list[Path]):
    """Asks the kernel to forget the files' cached pages, so that the next read comes from the disk."""
    for path in chain.from_iterable(folder.rglob("*") for folder in folders):
        if path.is_file():
            with open(path, "rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main():
    parser = arguments(__doc__)
    parser.add_argument("--prompts", type=int, nargs="+", default=[128, 512, 16], help="tokens (default: 128 512 16)")
    parser.add_argument("--processes", type=int, default=4, help="fresh processes per side and prompt length (default: 4)")
    parser.add_argument("--rounds", type=int, default=8, help="turns of each (default: 8)")
    parser.add_argument("--decode", type=int, default=32, help="tokens decoded after each prompt (default: 32)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    work = options.work
    bundle = work / "exports" / "qwen-0.5b-int8" / "tflite-xnnpack"
    stock = work / "exports" / "qwen-0.5b-litert-torch" / "model.litertlm"
    for path in (bundle / "manifest.json", stock):
        if not path.is_file():
            raise SystemExit(f"{path} is missing; run scripts/benchmarks/export_tflite.py first")
    caches = {OURS: work / "cache-firsttoken", STOCK: work / "cache-litert-lm"}

    def sides(prompt: int, drop: bool = False) -> dict:
        common = ["--prompt", prompt, "--decode", options.decode, "--threads", options.threads]
        commands = {
            OURS: [sys.executable, HERE / "run_bundle.py", bundle, *common],
            STOCK: [sys.executable, HERE / "run_litert_lm.py", stock, *common, "--cache", caches[STOCK]],
        }

        def make(name: str) -> Side:
            if drop:
                drop_from_page_cache([bundle, stock.parent, *caches.values()])
            return Side(commands[name], work / "logs" / f"first-token-{name}.log", {"XDG_CACHE_HOME": str(caches[OURS])})

        return {name: lambda name=name: make(name) for name in commands}

    take_turns(sides(16), 1, 1, ANY_LOAD)  # fills both disk caches
    samples = {prompt: take_turns(sides(prompt), options.processes, options.rounds, options.quiet) for prompt in options.prompts}
    start = take_turns(sides(128), 2 * options.processes, 0, options.quiet)
    dropped = take_turns(sides(128, drop=True), 2 * options.processes, 0, options.quiet)
    rows = []

    def row(title: str, of: dict, key: str, scale: float = 1000, digits: int = 1):
        ours, theirs = per_turn(of[OURS], key), per_turn(of[STOCK], key)
        rows.append([title, spread(ours, scale, digits), spread(theirs, scale, digits), ratio(ours, theirs)])

    for prompt, of in samples.items():
        row(f"first token, {prompt} tokens, ms", of, "first")
    for prompt, of in samples.items():
        row(f"decode after {prompt} tokens, ms a token", of, "decode")
    for title, of in (("files in page cache", start), ("files dropped", dropped)):
        row(f"second start, {title}: load, ms", of, "load", 1000, 0)
        row(f"second start, {title}: load and first token, 128 tokens, ms", of, "start", 1000, 0)
    largest = samples[max(samples)]
    row("peak RSS, MiB", largest, "peak", 1 / MIB, 0)
    row("of it private, MiB", largest, "RssAnon", 1 / MIB, 0)
    facts = (
        f"Median (minimum) of {options.processes} processes × {options.rounds} turns on {options.threads} threads, of {2 * options.processes} processes for the starts; ratio: median (middle half) over neighbouring turns. "
        + disturbance(list(samples.values()))
    )
    publish(
        work,
        "first_token_tflite",
        [table(["0.5B shape, INT8", OURS, STOCK, "ratio"], rows), facts],
        {"samples": samples, "start": start, "dropped": dropped},
    )


if __name__ == "__main__":
    main()
