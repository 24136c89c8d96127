"""First token and decoding on .tflite: firsttoken's int8 bundle against the stock bundle run by LiteRT-LM.

Same checkpoint, same precisions, same threads; fresh processes, A B A B, each started on a quiet machine. Per process:
load, one cold prompt, then warm runs; the table has the median (and the minimum) over all of them.

What is compared. Ours: wall time around prefill and picking the best token. Theirs: LiteRT-LM's own "time to first
token", prefill plus the mean decode step, from its benchmark mode with the same token counts (see run_litert_lm.py).
Neither has tokenizing in it. "Second start" is the load with each side's disk cache filled, once with all files in the
page cache, once after they were dropped from it. Run export_tflite.py first.
"""

import os
import sys
from itertools import chain
from pathlib import Path

from measure_process import ANY_LOAD, MIB, arguments, interleave, publish, ratio, run_json, spread, table

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
    parser.add_argument("--repeats", type=int, default=5, help="processes per side and prompt length (default: 5)")
    parser.add_argument("--runs", type=int, default=3, help="warm runs per process (default: 3)")
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
        common = ["--prompt", prompt, "--decode", options.decode, "--runs", 0 if drop else options.runs, "--threads", options.threads]
        commands = {
            OURS: [sys.executable, HERE / "run_bundle.py", bundle, *common],
            STOCK: [sys.executable, HERE / "run_litert_lm.py", stock, *common, "--cache", caches[STOCK]],
        }

        def call(name: str) -> dict:
            if drop:
                drop_from_page_cache([bundle, stock.parent, *caches.values()])
            return run_json(commands[name], work / "logs" / f"first-token-{name}.log", {"XDG_CACHE_HOME": str(caches[OURS])})

        return {name: lambda _, name=name: call(name) for name in commands}

    interleave(sides(8), 1, ANY_LOAD)  # fills both disk caches
    samples = {str(prompt): interleave(sides(prompt), options.repeats, options.quiet) for prompt in (128, 512)}
    dropped = interleave(sides(128, drop=True), options.repeats, options.quiet)

    def values(of: dict, name: str, key: str) -> list[float]:
        found = [sample[key] for sample in of[name]]
        return list(chain.from_iterable(found)) if isinstance(found[0], list) else found

    rows = []

    def row(title: str, of: dict, key: str, scale: float = 1000, digits: int = 1):
        ours, theirs = values(of, OURS, key), values(of, STOCK, key)
        rows.append([title, spread(ours, scale, digits), spread(theirs, scale, digits), ratio(ours, theirs)])

    for prompt, of in samples.items():
        row(f"first token, {prompt} tokens, ms", of, "first")
    for prompt, of in samples.items():
        row(f"decode after {prompt} tokens, ms a token", of, "decode")
    row("second start, files in page cache: load, ms", samples["128"], "load")
    row("… and first token after it, 128 tokens, ms", samples["128"], "cold_first")
    row("second start, files dropped: load, ms", dropped, "load")
    row("… and first token after it, 128 tokens, ms", dropped, "cold_first")
    row("peak RSS at 512 tokens, MiB", samples["512"], "peak", 1 / MIB, 0)
    row("of it private, MiB", samples["512"], "RssAnon", 1 / MIB, 0)
    worst = max(s["other_load"] for of in (*samples.values(), dropped) for side in of.values() for s in side)
    facts = f"Median (minimum) of {options.repeats} processes × {options.runs} warm runs, {options.threads} threads; ratio of medians (of minima). Most cores kept busy by others during a run: {worst:.2f}."
    publish(work, "first_token_tflite", [table(["0.5B shape, INT8", OURS, STOCK, "ratio"], rows), facts], {"samples": samples, "dropped": dropped})


if __name__ == "__main__":
    main()
